"""Outlines: symbols, ranges and hashes of every language, and texts that try to break them."""

# ruff: noqa: E501 - the tables below hold one symbol per line, however long its signature is

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum import grammars
from stratum import outline as module
from stratum.grammars import language_of
from stratum.outline import body_hash, outline
from stratum.redact import redact

FIXTURES = Path(__file__).parent / "fixtures" / "outline"

# Language, lines, complete, doc; then each symbol: lines, kind, name | signature | doc.
EXPECTED = {
    "Sample.cs": """
        c_sharp 34 True Orders of a shop.
        3-34 namespace Shop.Orders | namespace Shop.Orders |
        8-28 class Shop.Orders.Order | public class Order<T> : Base | One order.
        11-11 constant Shop.Orders.Order.Max | public const int Max = 3 |
        14-14 property Shop.Orders.Order.Total | public int Total |
        15-15 property Shop.Orders.Order.Half | public int Half |
        17-17 constructor Shop.Orders.Order.Order | public Order() : base(1) |
        19-24 method Shop.Orders.Order.PayAsync | public async Task<int> PayAsync(decimal amount) |
        22-22 function Shop.Orders.Order.PayAsync.Rounded | int Rounded() |
        26-26 method Shop.Orders.Order.operator + | public static Order<T> operator +(Order<T> a, Order<T> b) |
        27-27 property Shop.Orders.Order.this | public T this[int i] |
        30-30 enum Shop.Orders.State | public enum State |
        31-31 class Shop.Orders.Line | public record Line(string Name, int Count) |
        32-32 type Shop.Orders.Paid | public delegate void Paid(Order<int> order) |
        33-33 interface Shop.Orders.IStore | interface IStore |
        33-33 method Shop.Orders.IStore.Save | void Save() |
    """,
    "Sample.java": """
        java 30 True
        10-28 class Stock | public final class Stock<T> implements Counter | Counts stock.
        12-12 constant Stock.MAX | public static final int MAX = 10, MIN = 1 |
        12-12 constant Stock.MIN | public static final int MAX = 10, MIN = 1 |
        15-15 constructor Stock.Stock | public Stock(int count) |
        18-21 method Stock.add | public <R> int add(List<R> more) throws Full | Adds some.
        23-23 method Stock.add | public int add(int more) |
        25-25 enum Stock.Level | enum Level |
        25-25 method Stock.Level.next | Level next() |
        27-27 class Stock.Pair | record Pair(int a, int b) |
        27-27 constructor Stock.Pair.Pair | Pair |
        30-30 interface Counter | interface Counter |
        30-30 method Counter.add | int add(int more) |
    """,
    "sample.c": """
        c 34 True A queue of jobs.
        5-5 constant QUEUE_MAX | #define QUEUE_MAX 16 |
        6-7 macro SLOT | #define SLOT(i) |
        9-11 struct job_t | typedef struct |
        13-15 struct queue | struct queue |
        17-17 enum state | enum state |
        19-19 type callback | typedef int (*callback)(job_t *) |
        21-21 constant queue_limit | const int queue_limit = 4 |
        24-24 function queue_push | int queue_push(struct queue *q, job_t job) |
        27-30 function queue_pop | static job_t *queue_pop(struct queue *q) | Take the oldest job.
        33-33 function dump | void dump(void) |
    """,
    "sample.cpp": """
        cpp 30 True Pools of workers.
        3-26 namespace work.pool | namespace work::pool |
        6-17 class work.pool.Pool | template <typename T> class Pool : public Base | Runs tasks.
        9-9 constructor work.pool.Pool.Pool | explicit Pool(int size) |
        10-10 method work.pool.Pool.~Pool | ~Pool() |
        11-11 method work.pool.Pool.operator== | bool operator==(const Pool& other) const |
        12-12 method work.pool.Pool.run | void run(T task) |
        15-15 struct work.pool.Pool.Slot | struct Slot |
        19-20 constructor work.pool.Pool.Pool | template <typename T> Pool<T>::Pool(int size) |
        22-22 type work.pool.Task | using Task = void (*)() |
        24-24 enum work.pool.Mode | enum class Mode |
        28-28 method Queue.Item.weight | int Queue::Item::weight() const |
        30-30 function helper | static int helper(int a) |
    """,
    "sample.go": """
        go 29 True Package till sells things.
        4-4 constant MaxItems | const MaxItems = 20 |
        8-8 variable Quiet | Quiet, Loud = false, true | Quiet silences the bell.
        8-8 variable Loud | Quiet, Loud = false, true | Quiet silences the bell.
        13-15 struct Basket | type Basket[T any] struct | Basket holds goods.
        17-19 interface Pricer | type Pricer interface |
        18-18 method Pricer.Price | Price(id int) (cents int64, err error) |
        21-21 type ID | type ID = string |
        24-27 method Basket.Add | func (b *Basket[T]) Add(item T) | Add puts one in.
        29-29 function New | func New() *Basket[int] |
    """,
    "sample.js": """
        javascript 32 True Talks to the till.
        6-6 constant RETRIES | const RETRIES = 3 |
        10-13 function open | export async function open(port, { force = false } = {}) | Open the drawer.
        11-11 function open.wait | const wait = (ms) => |
        15-19 constant till | export const till = { close() {}, nested: { count: () => 1 }, size: 3, } |
        16-16 method till.close | close() |
        17-17 function till.nested.count | count: () => |
        21-27 class Drawer | class Drawer extends Box |
        23-23 method Drawer.onOpen | onOpen = () => |
        24-24 constructor Drawer.constructor | constructor() |
        25-25 property Drawer.locked | get locked() |
        26-26 method Drawer.coins | static async *coins() |
        29-29 function Drawer.shake | Drawer.prototype.shake = function () |
        30-30 function helper | exports.helper = function () |
        31-31 method start | start() |
        31-31 function stop | stop: function () |
    """,
    "sample.md": """
        markdown 18 True Start here.
        4-16 section Guide | Guide | Start here.
        8-12 section Guide > Install | Install | # not a heading
        14-16 section Guide > Old style | Old style | Text.
        18-18 section Help | Help |
    """,
    "sample.php": """
        php 33 True Accounts of a club.
        4-4 namespace Club.Accounts | namespace Club\\Accounts |
        6-6 constant FEE | const FEE = 10 |
        8-25 class Member | final class Member extends Person |
        12-12 constant Member.ACTIVE | public const ACTIVE = 'active' |
        14-14 constructor Member.__construct | public function __construct(private string $name) |
        19-24 method Member.pay | public function pay(int $cents): bool | Pay the fee.
        27-27 interface Payer | interface Payer |
        27-27 method Payer.pay | public function pay(int $cents): bool |
        29-29 trait Timestamps | trait Timestamps |
        31-31 enum Status | enum Status: string |
        31-31 method Status.label | public function label(): string |
        33-33 function total | function total(array $members): int |
    """,
    "sample.py": """
        python 38 True Price a basket of goods.
        7-7 constant MAX_ITEMS | MAX_ITEMS = 20 |
        11-32 class Basket | class Basket(Base) | Goods on their way to the till.
        15-18 property Basket.total | def total(self) -> int | Sum of prices, in cents.
        21-29 method Basket.add | async def add(self, item: Item, *, count: int = 1) -> None | Put one more thing in.
        25-28 function Basket.add.check | def check(value) |
        26-27 class Basket.add.check.Problem | class Problem(Exception) |
        32-32 class Basket.Empty | class Empty(Exception) |
        36-36 function trace | def trace() |
        38-38 function trace | def trace() |
    """,
    "sample.rb": """
        ruby 34 True Sells tickets.
        5-29 module Box | module Box |
        6-6 constant Box.LIMIT | LIMIT = 5 |
        9-26 class Box.Ticket | class Ticket < Base | One ticket.
        10-10 property Box.Ticket.seat | attr_reader :seat, :row |
        10-10 property Box.Ticket.row | attr_reader :seat, :row |
        12-14 constructor Box.Ticket.initialize | def initialize(seat) |
        16-16 method Box.Ticket.blank | def self.blank |
        19-21 method Box.Ticket.sold? | def sold? | Tell whether it is sold.
        24-24 method Box.Ticket.count | def count |
        28-28 method Box.open | def open(door) |
        31-31 class Point | Point = Struct.new(:x) |
        33-34 function main | def main |
    """,
    "sample.rs": """
        rust 36 True Stock of a shop.
        4-4 constant LIMIT | pub const LIMIT: usize = 10 | How much fits.
        7-11 struct Shelf | pub struct Shelf<T> | One shelf.
        13-13 enum Kind | pub enum Kind |
        15-17 trait Store | pub trait Store |
        16-16 method Store.put | fn put(&mut self, n: u32) |
        19-25 impl Shelf | impl<T: Clone> Store for Shelf<T> |
        20-24 method Shelf.put | fn put(&mut self, n: u32) |
        22-22 function Shelf.put.inner | fn inner() |
        27-30 module tests | mod tests |
        28-29 function tests.holds | fn holds() |
        32-34 macro shelf | macro_rules! shelf |
        36-36 type Pair | type Pair = (u8, u8) |
    """,
    "sample.rst": """
        rst 16 True Start here.
        1-16 section Guide | Guide | Start here.
        7-13 section Guide > Install | Install | Run it.
        12-13 section Guide > Install > Linux | Linux |
        15-16 section Guide > Help | Help |
    """,
    "sample.ts": """
        typescript 32 True Shapes of receipts.
        3-3 type Cents | export type Cents = number |
        5-8 interface Receipt | export interface Receipt |
        7-7 method Receipt.print | print(width: number): string |
        10-10 enum Tax | export enum Tax |
        12-24 class Printer | export abstract class Printer<T extends Receipt> |
        14-14 constructor Printer.constructor | constructor(private readonly port: string) |
        16-16 method Printer.send | send(receipt: T): void |
        17-17 method Printer.send | send(receipt: T, copies = 1): void |
        20-21 method Printer.again | async again() | Try again.
        23-23 method Printer.cut | abstract cut(): void |
        26-28 namespace Paper | namespace Paper |
        27-27 function Paper.width | export const width = (mm: number) => |
        30-30 constant DEFAULTS | export const DEFAULTS = { reset() {} } as const |
        30-30 method DEFAULTS.reset | reset() |
        31-31 function beep | declare function beep(times: number): void |
        32-32 function default | export default function () |
    """,
    "sample.tsx": """
        tsx 11 True
        1-1 type Props | type Props = { label: string } |
        4-7 function Button | export const Button = ({ label }: Props) => | A button with a label.
        5-5 function Button.onClick | const onClick = () => |
        9-11 function List | export function List<T,>(items: T[]) |
    """,
}


def read(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def shown(text: str, language: str) -> str:
    found = outline(text, language)
    lines = [f"{found.language} {found.lines} {found.complete} {found.doc}"]
    lines += [
        f"{s.start_line}-{s.end_line} {s.kind} {s.name} | {s.signature} | {s.doc}"
        for s in found.symbols
    ]
    return "\n".join(line.rstrip() for line in lines)


def names(text: str, language: str) -> list[str]:
    return [symbol.name for symbol in outline(text, language).symbols]


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_outline_lists_every_definition_with_lines_signature_and_doc(name: str) -> None:
    text = read(name)
    expected = "\n".join(line.strip() for line in EXPECTED[name].strip().split("\n"))
    assert shown(text, language_of(name, text)) == expected


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_line_endings_do_not_change_an_outline(name: str) -> None:
    text = read(name)
    language = language_of(name, text)
    assert outline(text.replace("\n", "\r\n"), language) == outline(text, language)
    assert outline("\ufeff" + text, language) == outline(text, language)


@pytest.mark.parametrize(
    ("path", "head", "language"),
    [
        ("a/b.py", "", "python"),
        ("b.pyi", "", "python"),
        ("x.mjs", "", "javascript"),
        ("x.JSX", "", "javascript"),
        ("x.d.ts", "", "typescript"),
        ("x.tsx", "", "tsx"),
        ("C:\\x\\Order.cs", "", "c_sharp"),
        ("README.md", "", "markdown"),
        ("Rakefile", "", "ruby"),
        ("Dockerfile.dev", "", "dockerfile"),
        ("list.h", "int push(int);\n", "c"),
        ("list.h", "#include <stdio.h>\n", "c"),
        ("list.h", '#ifdef __cplusplus\nextern "C" {\nclass X\n#endif\nint f(void);', "c"),
        ("list.h", "#include <vector>\n", "cpp"),
        ("list.h", "namespace a {\n", "cpp"),
        ("list.h", "template <class T>\n", "cpp"),
        ("run", "#!/usr/bin/env python3\n", "python"),
        ("run", "#! /usr/bin/python3.12 -u\n", "python"),
        ("run", "#!/usr/bin/env -S node --x\n", "javascript"),
        ("run", "#!\n", "text"),
        ("run", "", "text"),
        ("notes.txt", "", "text"),
        (".py", "", "python"),
        ("", "", "text"),
    ],
)
def test_language_is_told_by_name_then_by_interpreter(path: str, head: str, language: str) -> None:
    assert language_of(path, head) == language


PREFIX = {
    "python": ("def f(a, b):\n    ", "\n"),
    "javascript": ("function f(a, b) {\n", "\n}"),
    "typescript": ("function f(a, b) {\n", "\n}"),
    "tsx": ("function f(a, b) {\n", "\n}"),
    "go": ("package p\nfunc f(a, b int) {\n", "\n}"),
    "rust": ("fn f(a: u8, b: u8) {\n", "\n}"),
    "java": ("class C { void f(int a, int b) {\n", "\n} }"),
    "c": ("void f(int a, int b) {\n", "\n}"),
    "cpp": ("void f(int a, int b) {\n", "\n}"),
    "c_sharp": ("class C { void f(int a, int b) {\n", "\n} }"),
    "ruby": ("def f(a, b)\n", "\nend"),
    "php": ("<?php function f($a, $b) {\n", "\n}"),
}


def hash_of(code: str, language: str) -> str:
    before, after = PREFIX[language]
    found = outline(before + code + after, language)
    assert found.complete, code
    (symbol,) = (s for s in found.symbols if s.name.rpartition(".")[2] == "f")
    return symbol.body_hash


ANY_LANGUAGE = [*PREFIX]
SAME = [
    ("python", "x = 'a'", 'x = "a"'),
    ("python", "x = U'a' + Rb'b'", "x = 'a' + bR\"b\""),
    ("python", "x = 'it\\'s'", 'x = "it\'s"'),
    ("python", "x = f'{a+b!r:>{a}} c'", 'x = f"{ a + b !r:>{a}} c"'),
    ("python", '"""A  doc.\n\n      More.\n    """', '"""\n  A doc.\n\tMore."""'),
    ("python", "'It\\'s a doc.'\n    return a", '"It\'s a doc."\n    return a'),
    ("python", 'u"""A doc."""\n    return a', '"A doc."\n    return a'),
    ("python", "g(a, b)", "g(\n        a,  # c\n        b,\n    )"),
    ("python", "x = 0XfF + 1E5", "x = 0xFF + 1e5"),
    ("python", "a = 1; b = 2", "a = 1\n    b = 2"),
    ("python", "x = a + \\\n        b", "x = a + b"),
    ("javascript", "x = 'a'; y(1)", 'x = "a"\ny( 1 );'),
    ("javascript", "for (;;) { g() }", "for ( ; ; ) { g(); }"),
    ("javascript", "g([1, 2,], {a,})", "g([1, 2], {\na })"),
    ("javascript", "return `a ${b} c`", "return `a ${ b } c`;"),
    ("javascript", "return <b>hi\n   you</b>", "return <b>\n hi\n you\n</b>"),
    ("typescript", "type T = {a: string; b: number}", "type T = {\n a: string,\n b: number,\n}"),
    ("tsx", "return <b c='d'>x</b>", 'return <b c="d">x</b>;'),
    ("go", "x := g(a, b)", "x := g(\na, // c\nb,\n)"),
    ("go", "a = 1; b = 2", "a = 1\nb = 2"),
    ("rust", "match a { 1 => {}, _ => b, }", "match a {\n 1 => {}\n _ => b\n}"),
    ("rust", "let v = vec![1, 2];", "let v = vec![ 1,\n2 ];"),
    ("java", "int[] x = {1, 2,};", "int[] x = { 1, 2 }; // c"),
    ("c", "int x[] = {1, 2,};", "int x[] = { 1, /* c */ 2 };"),
    ("cpp", "std::vector<std::vector<int>> x;", "std::vector< std::vector<int> > x ;"),
    ("c_sharp", "var x = new[] {1, 2,};", "var x = new [] { 1, 2 };"),
    ("ruby", "x = 'a'; g(1)", 'x = "a"\ng( 1 )'),
    ("ruby", "g([1, 2,])", "g([1,\n 2]) # c"),
    ("php", "$x = 'a'; g([1, 2,]);", '$x = "a";\ng([ 1, 2 ]); // c'),
    ("python", "x = (a)", "x = a"),
    ("python", "x = ((a, b))", "x = a, b"),
    ("python", "x = (a,)", "x = a,"),
    ("python", "(a) = b", "a = b"),
    ("python", "for (x, y) in (a): pass", "for x, y in a: pass"),
    ("python", "del (a, b)", "del a, b"),
    ("python", "with (a as x, b): pass", "with a as x, b: pass"),
    ("python", "return (a or b)", "return a or b"),
    ("python", "if (a or b): pass", "if a or b: pass"),
    ("python", "assert (a or b), (a if b else 1)", "assert a or b, a if b else 1"),
    ("python", "g((a or b), x=(lambda: a))", "g(a or b, x=lambda: a)"),
    ("python", "x = lambda: (a or b)", "x = lambda: a or b"),
    ("python", "x = {(a): (b or a)}", "x = {a: b or a}"),
    ("python", "x = a + (b)", "x = a + b"),
    ("python", "x = (yield)", "x = yield"),
    ("python", "from a import (b, c,)", "from a import b, c"),
    ("python", "class A(): pass", "class A: pass"),
    ("python", "x = 'a' 'b'", "x = 'ab'"),
    ("python", "x = ('a'\n        f'{b}{{c' '}')", "x = f'a{b}{{c}}'"),
    ("python", "x = 24. + .50 + 1E+05 + 5J", "x = 24.0 + 0.5 + 1e5 + 5j"),
    ("javascript", "x = (y) => (y ? 1 : 2)", "x = y => y ? 1 : 2"),
    ("javascript", "x = (a && b) || (c)", "x = a && b || c"),
    ("javascript", "x = (a * b) / c", "x = a * b / c"),
    ("javascript", "x = a - (-b)", "x = a - -b"),
    ("javascript", "x = {'a': (1), b: [(2)]}", "x = {a: 1, 'b': [2]}"),
    ("javascript", ";(a).b; ;[1].map(x)", ";(a).b\n[1].map(x)".replace("\n[", "\n;[")),
    ("javascript", "x = 1.50e+10 + 0XAB + 5.", "x = 1.5e10 + 0xab + 5"),
    ("javascript", "return <a b='x'/>", 'return <a b="x"/>'),
    ("tsx", "return <a b='say \"x\"'/>", 'return <a b="say &quot;x&quot;"/>'),
    ("typescript", "type T = | A | (B)", "type T = A | (B)"),
    ("typescript", "let x: (A | B)", "let x: A | B"),
    ("go", "if (a > b) {\n}", "if a > b {\n}"),
    ("go", "x := 0XFF + 1E5", "x := 0xff + 1e5"),
    ("rust", "let c = |x| { x + 1 };", "let c = |x| x + 1;"),
    ("rust", "match a { 1 => { g(b) } _ => c }", "match a { 1 => g(b), _ => c }"),
    ("rust", "let Some(c) = a else { return };", "let Some(c) = a else { return; };"),
    ("java", 'g("a" + "b" + 1, x + ("c" + "d"));', 'g("ab" + 1, x + "cd");'),
    ("c", 'g("a" "b");', 'g("ab");'),
    ("c", "#  define A 1\n# undef A\n", "#define A 1\n#undef A\n"),
    ("c_sharp", 'g("a" + "b", @"c" + @"d");', 'g("ab", @"cd");'),
]
DIFFERENT = [
    ("python", "x = (a or b) and a", "x = a or b and a"),
    ("python", "x = (a, b), a", "x = a, b, a"),
    ("python", "x = -(a ** b)", "x = (-a) ** b"),
    ("python", "x = (a < b) < a", "x = a < b < a"),
    ("python", "x = a if b else (a, b)", "x = a if b else a, b"),
    ("python", "x = [c for c in (a if b else a)]", "x = [c for c in a if b]"),
    ("python", "x = a in (b or a)", "x = a in b or a"),
    ("python", "x = not (a and b)", "x = not a and b"),
    ("python", "(x): int = a", "x: int = a"),
    ("python", "x = f'{a=}'", "x = f'{(a)=}'"),
    ("python", "x = f'{a+b=}'", "x = f'{a + b=}'"),
    ("python", "x = '\\1' '2'", "x = '\\12'"),
    ("python", "x = '{a}' f'{b}'", "x = f'{a}{b}'"),
    ("python", "x = 'a' b'b'", "x = 'ab'"),
    ("python", "assert (a, b)", "assert a, b"),
    ("python", "x: tuple[int,] = a", "x: tuple[int] = a"),
    ("python", "x = 1.0", "x = 1"),
    ("python", "x = 1e5", "x = 1e-5"),
    ("python", "x = (yield a), b", "x = yield a, b"),
    ("python", "raise a", "raise (a) from b"),
    ("javascript", "x = (a || b) && c", "x = a || b && c"),
    ("javascript", "x = a - (b - c)", "x = a - b - c"),
    ("javascript", "x = -(a * b)", "x = -a * b"),
    ("javascript", "x = -a + (b % c)", "x = (-a + b) % c"),
    ("javascript", "x = (y) => ({})", "x = (y) => {}"),
    ("javascript", "x = (a, b)", "x = a, b"),
    ("javascript", "new (a.b())()", "new a.b()()"),
    ("javascript", "x = (a ? b : c) ? a : b", "x = a ? b : c ? a : b"),
    ("javascript", "return\n(a)", "return (a)"),
    ("javascript", "return\n-a", "return -a"),
    ("javascript", "('use strict'); a", "'use strict'; a"),
    ("javascript", ";'use strict'; a", "'use strict'; a"),
    ("javascript", "x = (() => a)()", "x = () => a()"),
    ("javascript", "x = a?.b.c", "x = (a?.b).c"),
    ("javascript", "x = {'a': b}", "x = {'a b': b}"),
    ("javascript", "x = {a: b}", "x = {[a]: b}"),
    ("typescript", "type T = (A | B)[]", "type T = A | B[]"),
    ("typescript", "interface I { (a): b }", "interface I { a: b }"),
    ("go", "if a := b; a {\n}", "if a := b(a); a {\n}"),
    ("go", "if a; b {\n}", "if b {\n}"),
    (
        "rust",
        "macro_rules! m { ($($a:tt),*) => { 1 } }",
        "macro_rules! m { ($($a:tt);*) => { 1 } }",
    ),
    ("rust", "macro_rules! m { ($($a:tt,)*) => { 1 } }", "macro_rules! m { ($($a:tt)*) => { 1 } }"),
    ("rust", "let c = || { g(); };", "let c = || { g() };"),
    ("rust", "match a { 1 => { g(); } _ => {} }", "match a { 1 => g(), _ => {} }"),
    ("java", 'g("a" + 1 + "b");', 'g("a1" + "b");'),
    ("java", "x = (a + b) * 2;", "x = a + b * 2;"),
    ("java", 'g("\\1" + "2");', 'g("\\12");'),
    ("java", 'g(1 + ("2" + x));', 'g(1 + "2" + x);'),
    ("c", 'g("\\x1" "2");', 'g("\\x12");'),
    ("c", 'g(L"a" "b");', 'g(L"ab");'),
    ("c", "x = (int) a + b;", "x = (int) (a + b);"),
    ("c_sharp", 'g("a" + @"\\b");', 'g("a\\b");'),
    ("python", '"""Old doc."""\n    return a', '"""New doc."""\n    return a'),
    ("python", '"""Olddoc."""\n    return a', '"""Old doc."""\n    return a'),
    ("python", '"""A doc."""\n    return a', "return a"),
    ("python", '"""A\\n doc."""\n    return a', 'r"""A\\n doc."""\n    return a'),
    ("python", "'a ' 'doc'\n    return a", "'a' 'doc'\n    return a"),
    ("python", '"""A\\\ndoc."""\n    return a', '"""A\\\n  doc."""\n    return a'),
    ("python", '"""A\\\ndoc."""\n    return a', '"""A\\ doc."""\n    return a'),
    ("python", 'x = """a  b"""', 'x = """a b"""'),
    ("python", "if a:\n        g()\n        h()", "if a:\n        g()\n    h()"),
    ("python", "x = (a,)", "x = (a)"),
    ("python", "x = b[a,]", "x = b[a]"),
    ("python", "x = 'a'", "x = b'a'"),
    ("python", "x = '\\n'", "x = r'\\n'"),
    ("python", "x = 'a b'", "x = 'a  b'"),
    ("python", "x = f'{a: }'", "x = f'{a:}'"),
    ("python", "return\n    g()", "return g()"),
    ("python", "x = a\n    (b)", "x = a(b)"),
    ("python", "x = 'a'\n    'doc'", "x = 'a'\n    'cod'"),
    ("javascript", "return\ng()", "return g()"),
    ("javascript", "for (;;a) {}", "for (a;;) {}"),
    ("javascript", "x = [,]", "x = []"),
    ("javascript", "x = `a ${b}`", "x = `a${b}`"),
    ("javascript", "return <i>a {b}</i>", "return <i>a{b}</i>"),
    ("javascript", "x = /a b/", "x = /a  b/"),
    ("javascript", "x = a+ ++b", "x = a++ +b"),
    ("typescript", "let x: string = a", "let x: number = a"),
    ("tsx", "return <b>x</b>", "return <i>x</i>"),
    ("javascript", 'return <a b="\\\'"/>', 'return <a b="\'"/>'),
    ("tsx", "return <a b='\\\"'/>", "return <a b='\"'/>"),
    ("javascript", "return <a b='x  y'/>", "return <a b='x y'/>"),
    ("go", "for ; a > b; {\n}", "for a > b; ; {\n}"),
    ("go", 'x := "a b"', 'x := "a  b"'),
    ("go", "a <- b", "a < -b"),
    ("rust", "let x = (a,);", "let x = (a);"),
    ("rust", 'g("a");', "g('a');"),
    ("java", "g('a');", 'g("a");'),
    ("c", "g('a');", 'g("a");'),
    ("c", "x = a & &b;", "x = a && b;"),
    ("cpp", "x = a - -b;", "x = a -- -b;"),
    ("c_sharp", "int[,] x;", "int[] x;"),
    ("c_sharp", 'x = $"a {b}";', 'x = $"a{b}";'),
    ("ruby", "g [1]", "g[1]"),
    ("ruby", "x = 'a\\n'", 'x = "a\\n"'),
    ("ruby", "x = <<~A\n  a b\nA", "x = <<~A\n  a  b\nA"),
    ("php", "$x = '$a';", '$x = "$a";'),
]


@pytest.mark.parametrize(("language", "before", "after"), SAME)
def test_formatting_does_not_change_a_hash(language: str, before: str, after: str) -> None:
    assert before != after
    assert hash_of(before, language) == hash_of(after, language)


@pytest.mark.parametrize(("language", "before", "after"), DIFFERENT)
def test_a_change_of_meaning_changes_a_hash(language: str, before: str, after: str) -> None:
    assert hash_of(before, language) != hash_of(after, language)


MUTATED = {
    "python": """
        @cached(size=3)
        async def f(self, a, b=2, *rest: int, **more) -> bool:
            'Say what it does.'
            global state
            if not a and b >= 1:
                total = (a + b) * 3 - self.rate[0]
            elif a is None or b in rest:
                del more['key']
                raise Problem('no key') from a
            for i, one in rest:
                await g(one, i)
                continue
            return lambda x: total if x < 4 else rest[1:]
    """,
    "javascript": """
        export async function f(a, b = 2, ...rest) {
          let total = (a + b) * 3 - this.rate[0]
          if (!a && b >= 1) throw new Problem('no key')
          const { key, other } = rest
          for (const one of rest) { await g(one, key) }
          while (a != null) { delete key.x; break }
          return (x) => x < 4 ? `a ${total}` : /b/g
        }
    """,
    "typescript": """
        export async function f<T extends A>(a: string, b?: number): Promise<T> {
          const total: number = (a + b) * 3 - this.rate[0]
          if (!a && b >= 1) throw new Problem('no key')
          return other as unknown
        }
    """,
    "tsx": """
        export const F = ({ a, b = 2 }: Props) => {
          const shown = (a + b) * 3
          return <p title="some" onClick={go}>Hello {shown} and {b}</p>
        }
    """,
    "go": """
        package p
        func (s *Shop[T]) f(a int, b string) (n int, err error) {
            total := (a + b) * 3 - s.rate[0]
            if !a && b >= 1 { return 4, errors.New("no key") }
            for i, one := range s.all { go g(one, i) }
            defer s.close()
            ch <- total
            return *p, nil
        }
    """,
    "rust": """
        #[inline]
        pub async fn f<'a, T: Clone>(mut a: &'a str, b: u8) -> Option<u8> {
            let total = (a + b) * 3 - self.rate[0];
            if !a && b >= 1 { return Err("no key") }
            for one in &mut rest { g(one, b)?; }
            unsafe { *p = total as u8 }
            println!("{} {}", a, b);
            Some(|x| x < 4)
        }
    """,
    "java": """
        class C {
            @Override
            public static <T> int f(final int a, String b) throws Problem {
                int total = (a + b) * 3 - this.rate[0];
                if (!a && b >= 1) { throw new Problem("no key"); }
                for (String one : rest) { g(one, b); }
                return total > 4 ? 'x' : x -> y;
            }
        }
    """,
    "c": """
        static const int f(unsigned a, char *b) {
            int total = (a + b) * 3 - s->rate[0];
            if (!a && b >= 1) { return g("no key", 'x'); }
            for (int i = 0; i < 4; i++) { h(i, b); }
            return total ? (int) *b : sizeof(a);
        }
    """,
    "cpp": """
        template <typename T>
        virtual auto N::f(const T& a, int b = 2) noexcept -> int {
            auto total = (a + b) * 3 - this->rate[0];
            if (!a && b >= 1) { throw Problem("no key"); }
            for (auto& one : rest) { g(one, b); }
            return static_cast<int>(total) < 4;
        }
    """,
    "c_sharp": """
        class C {
            [Fact]
            public async Task<int> f(int a, string b = "two") {
                var total = (a + b) * 3 - this.rate[0];
                if (!a && b >= 1) { throw new Problem($"no {key}"); }
                foreach (var one in rest) { await g(one, b); }
                return total is null ? x : y => z;
            }
        }
    """,
    "ruby": """
        def f(a, b = 2, *rest, key: 3)
          total = (a + b) * 3 - @rate[0]
          raise Problem, 'no key' unless a && b >= 1
          rest.each { |one| g(one, b) }
          yield total if !a
          return :symbol, "in #{total}", /b/
        end
    """,
    "php": """
        <?php
        final public static function f(int $a, ?string $b = 'two'): int {
            $total = ($a + $b) * 3 - $this->rate[0];
            if (!$a && $b >= 1) { throw new Problem("no $key"); }
            foreach ($rest as $key => $one) { g($one, $b); }
            return $total . self::NAME;
        }
    """,
}
OTHER = {
    "+": "-",
    "-": "+",
    "*": "/",
    "<": ">",
    ">=": ">",
    "&&": "||",
    "and": "or",
    "or": "and",
    "is": "==",
    "?": "+",
    "->": ".",
}
TOKENS = re.compile(
    r"""'(?:\\.|[^'\\\n])*'(?!\w*,| )|"[^"\n]*"|`[^`]*`|[\w$@]+|=>|->|::|\.{3}|[-+*/<>=!:]=|&&|\|\||\S"""
)
BRACKETS = set("()[]{};")


def mutations(text: str) -> dict[str, str]:
    """Change one token, pair of tokens or line at a time, each in a way that has a meaning."""
    found: dict[str, str] = {}
    tokens = [*TOKENS.finditer(text)]
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        start, end, word = token.start(), token.end(), token[0]
        if word in BRACKETS:
            continue
        found[f"drop {word} at {start}"] = text[:start] + " " + text[end:]
        changed = OTHER.get(word, word[:-1] + "q" + word[-1:] if len(word) > 1 else word + "q")
        found[f"change {word} at {start}"] = text[:start] + changed + text[end:]
        if following and following[0] not in BRACKETS | {word}:
            swapped = following[0] + text[end : following.start()] + word
            found[f"swap {word} at {start}"] = text[:start] + swapped + text[following.end() :]
    for match in re.finditer(r"(\w+)(, )(\$?\w+)(?=\))", text):
        swapped = match[3] + match[2] + match[1]
        found[f"swap arguments at {match.start()}"] = (
            text[: match.start()] + swapped + text[match.end() :]
        )
    lines = text.split("\n")
    for row in range(1, len(lines)):
        others = [*lines[:row], *lines[row + 1 :]]
        found[f"drop line {row}"] = "\n".join(others)
    for opening, closing in re.findall(r"(\(\$?a \+ \$?b)(\))", text):
        found["group otherwise"] = text.replace(opening + closing, opening[1:])
    return found


@pytest.mark.parametrize("language", ANY_LANGUAGE)
def test_every_change_of_a_token_gives_another_hash(language: str) -> None:
    text = textwrap.dedent(MUTATED[language]).strip("\n")
    assert outline(text, language).symbols
    before = body_hash(text, language)
    changed = mutations(text)
    assert len(changed) > 60
    assert [what for what, other in changed.items() if body_hash(other, language) == before] == []


def test_every_change_of_indentation_gives_another_hash() -> None:
    text = textwrap.dedent(MUTATED["python"]).strip("\n")
    lines = text.split("\n")
    last = [row for row in range(3, len(lines)) if lines[row].startswith(" " * 8)]
    assert len(last) >= 5
    for row in last:
        moved = "\n".join([*lines[:row], lines[row][4:], *lines[row + 1 :]])
        assert body_hash(moved, "python") != body_hash(text, "python"), lines[row]


def test_equal_hashes_mean_equal_trees_of_python() -> None:
    """Put parentheses around, and take them from, every stretch of tokens that still parses."""
    text = textwrap.dedent(MUTATED["python"]).strip("\n")
    text += "\n    (a, b) = x = (not a) in b, (a or b) and {a: (b), **(c)}, [i for i in (a or b)]"
    text += (
        "\n    with (a): yield (a if b else c), (a < b) < c, -(a**b), (lambda: (a, b)), f'{(a)!r}'"
    )
    before, tree = body_hash(text, "python"), folded_tree(text)
    tokens = [*TOKENS.finditer(text)]
    others = []
    for i, first in enumerate(tokens):
        others += [
            f"{text[: first.start()]}({text[first.start() : last.end()]}){text[last.end() :]}"
            for last in tokens[i : i + 9]
        ]
        closing = text.find(")", first.end())
        if first[0] == "(":
            others.append(
                f"{text[: first.start()]} {text[first.end() : closing]} {text[closing + 1 :]}"
            )
    same = different = 0
    for other in others:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                other_tree = folded_tree(other)
            except SyntaxError:
                continue
        if body_hash(other, "python") == before:
            same += 1
            assert other_tree == tree, other
        else:
            different += 1
    assert same > 100
    assert different > 100


def folded_tree(text: str) -> str:
    """Write down a tree as Python reads it, with the white space of docstrings folded."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                value.value = " ".join(value.value.split())
    return ast.dump(tree)


@pytest.mark.parametrize("language", ANY_LANGUAGE)
def test_every_edit_of_a_call_gives_another_hash(language: str) -> None:
    end = {"python": "", "ruby": "", "go": "", "javascript": ""}.get(language, ";")
    sign = "$" if language == "php" else ""
    calls = [
        "g(a + b, 1)",
        "g(b + a, 1)",
        "g(1, a + b)",
        "g(a - b, 1)",
        "g(a + b, 2)",
        "h(a + b, 1)",
    ]
    codes = [call.replace("a", sign + "a").replace("b", sign + "b") + end for call in calls]
    assert len({hash_of(code, language) for code in codes}) == len(codes)


@pytest.mark.parametrize("language", ANY_LANGUAGE)
def test_comments_and_white_space_do_not_change_a_hash(language: str) -> None:
    mark = "#" if language in ("python", "ruby") else "//"
    indent = "    " if language == "python" else "\t\t"
    end = "" if language in ("python", "ruby", "go", "javascript") else ";"
    plain = f"g(1){end}\n{indent}h(2){end}" if language == "python" else f"g(1){end}\nh(2){end}"
    loose = f"g( 1 ){end}  {mark} one\n\n{indent}{mark} two\n{indent}h(  2 ){end}"
    assert hash_of(plain, language) == hash_of(loose, language)


COMMANDS = [
    ("python", "#!/usr/bin/env python3\nx = 1\n", "env python3", "env python2"),
    ("python", "# -*- coding: utf-8 -*-\nx = 1\n", "utf-8", "latin-1"),
    ("python", "#!/bin/x\n# vim: set fileencoding=utf-8 :\nx = 1\n", "utf-8", "latin-1"),
    ("python", '# /// script\n# dependencies = [\n#   "a",\n# ]\n# ///\n', '"a"', '"b"'),
    ("javascript", "#!/usr/bin/env node\nx()\n", "node", "bun"),
    ("javascript", "/** @jsx h */\nx = <a/>\n", "jsx h", "jsx g"),
    ("javascript", "/**\n * Of a page.\n * @jest-environment jsdom\n */\nx()\n", "jsdom", "node"),
    ("javascript", 'import(/* webpackChunkName: "a" */ "b")\n', '"a"', '"c"'),
    ("typescript", '/// <reference types="node" />\nlet x\n', "node", "bun"),
    ("tsx", "/** @jsxImportSource a */\nlet x = <a/>\n", "Source a", "Source b"),
    ("go", "//go:build linux\n\npackage p\n", "linux", "darwin"),
    ("go", "// +build linux\n\npackage p\n", "linux", "darwin"),
    ("go", '// #include <a.h>\n// int f();\nimport "C"\n', "a.h", "b.h"),
    ("go", '/*\n#include <a.h>\n*/\nimport "C"\n', "a.h", "b.h"),
    ("go", 'import (\n\t// #include <a.h>\n\t"C"\n)\n', "a.h", "b.h"),
    ("go", "//go:embed a.html\nvar page string\n", "a.html", "b.html"),
    ("go", "//export run\nfunc f() {}\n", "export run", "export walk"),
    ("go", "func ExampleF() {\n\tf()\n\t// Output:\n\t// one\n\t// two\n}\n", "two", "2"),
    ("rust", "#!/usr/bin/env run-cargo-script\nfn f() {}\n", "run-cargo-script", "rust"),
    ("ruby", "#!/usr/bin/env ruby\nf\n", "ruby", "jruby"),
    ("ruby", "# frozen_string_literal: true\nf\n", "true", "false"),
    ("ruby", "# -*- encoding: utf-8 -*-\nf\n", "utf-8", "ascii"),
    ("php", '/**\n * Show it.\n * @Route("/a")\n */\nfunction f() {}\n', "/a", "/b"),
    ("php", "/** @ORM\\Column */\nfunction f() {}\n", "Column", "Id"),
    ("php", "/** @dataProvider a */\nfunction testF() {}\n", "Provider a", "Provider b"),
]


@pytest.mark.parametrize(("language", "text", "part", "other"), COMMANDS)
def test_a_comment_that_is_compiled_or_executed_counts(
    language: str, text: str, part: str, other: str
) -> None:
    assert text.count(part) == 1
    assert body_hash(text, language) != body_hash(text.replace(part, other), language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "x = 1  # noqa: E501\n# type: ignore\n# pylint: disable=a\n# An encoding.\n"),
        ("javascript", "// eslint-disable-next-line\nx()\n// @ts-ignore\n"),
        ("javascript", "x()\n/** @param a */\n//# sourceMappingURL=a.js.map\n"),
        ("typescript", "// @ts-expect-error\nx()\n/// Of a page.\n"),
        ("go", '// Of C.\nimport "c"\nx() // nolint\n//nolint:all\n// go: run it\n'),
        ("rust", "/// Doc.\n//! Doc.\n/** Doc. */\nfn f() {}\n"),
        ("ruby", "# rubocop:disable A\nf # :nodoc:\n# frozen?\n"),
        (
            "php",
            "/** @param A $a\n * @see f() */ f(); // phpcs:ignore\n/** @SuppressWarnings(A) */",
        ),
        ("c_sharp", "/// <summary>Doc.</summary>\nclass A {}\n"),
        ("java", "/** @Route(a) */\nclass A {}\n"),
    ],
)
def test_marks_for_linters_and_types_do_not_count(language: str, text: str) -> None:
    comment = re.compile(r"#.*|/\*.*?\*/|//.*", re.DOTALL if "/*" in text else 0)
    lines = [comment.sub("", line) for line in re.sub(r"(?s)/\*.*?\*/", "", text).split("\n")]
    bare = "\n".join(lines)
    assert bare != text
    assert body_hash(bare, language) == body_hash(text, language)


@pytest.mark.parametrize(
    ("language", "text", "name", "mark", "doc"),
    [
        ("go", "// Page is shown.\n//go:embed a\nvar Page string", "Page", "embed a", "Page is shown."),
        ("go", "//go:embed a\n// Page is shown.\nvar Page string", "Page", "embed a", "Page is shown."),
        ("go", "//go:embed a\n\nvar Page string", "Page", "embed a", ""),
        ("go", "//go:noinline\n//go:nosplit\nfunc f() {}", "f", "noinline", ""),
        ("go", "var (\n\tA = 1\n\t//go:embed a\n\tPage string\n)", "Page", "embed a", ""),
        ("go", "//export Run\nfunc f() {}", "f", "export Run", "export Run"),
        ("php", 'f();\n// Part 2.\n/** Show it. @Route("/a") */\n#[B]\nfunction f() {}', "f", '"/a"', "Show it. @Route(\"/a\")"),
        ("php", 'class A {\n  /**\n   * Show it.\n   * @Route("/a")\n   */\n  function f() {}\n}', "A.f", '"/a"', "Show it."),
    ],
)  # fmt: skip
def test_a_command_above_a_definition_belongs_to_it(
    language: str, text: str, name: str, mark: str, doc: str
) -> None:
    before = {"go": "package p\n\nfunc First() {}\n\n", "php": "<?php\n"}[language]
    text = f"{before}{text}\n"
    found = {s.name: s for s in outline(text, language).symbols}
    changed = {s.name: s for s in outline(text.replace(mark, "other"), language).symbols}
    assert found[name].body_hash != changed[name].body_hash
    assert {n for n in found if found[n].body_hash != changed[n].body_hash} <= {name, "A"}
    first, last = found[name].start_line, found[name].end_line
    piece = "\n".join(text.split("\n")[first - 1 : last])
    assert mark in piece
    assert found[name].doc == doc
    assert found[name].signature == text.split("\n")[last - 1].strip().rstrip("{} ")
    if not piece[0].isspace():
        assert body_hash(piece, language) == found[name].body_hash


def test_what_stands_before_all_code_belongs_to_the_file_only() -> None:
    text = "#!/usr/bin/env python3\n# coding: utf-8\n# What it does.\n\ndef f(): pass\n"
    found = outline(text, "python")
    (symbol,) = found.symbols
    assert (found.doc, symbol.start_line, symbol.doc) == ("What it does.", 5, "")
    assert symbol.body_hash == outline("def f(): pass\n", "python").symbols[0].body_hash


def test_a_command_below_a_decorator_is_part_of_the_definition() -> None:
    texts = [f"x\n@a\n# cython: {mark}\ndef f(): pass\n" for mark in "ab"]
    (one,), (other,) = (outline(text, "python").symbols for text in texts)
    assert one.start_line == 2
    assert one.body_hash != other.body_hash


def test_how_a_command_is_indented_does_not_count() -> None:
    text = 'class A {\n/**\n * A.\n * @Route("/a")\n */\nfunction f() {}\n}\n'
    indented = text.replace("\n", "\n    ")
    assert body_hash(text, "php") == body_hash(indented, "php")


GO_CONSTANTS = "package p\nconst (\n\tA Bits = 1 << iota // a\n\tB\n\t_\n\tC\n\tD = 7\n\tE\n)\n"


@pytest.mark.parametrize(
    ("part", "other", "names"),
    [
        ("1 << iota", "2 << iota", "A B C"),
        ("1 << iota", "1<<iota", ""),
        ("// a", "// b", ""),
        ("Bits", "Bytes", "A B C"),
        ("\t_\n", "", "C"),
        ("\tA Bits", "\t_ = 0\n\tA Bits", "A B C"),
        ("\tD = 7", "\tD = 8", "D E"),
        ("\tB\n\t_\n\tC\n", "\tC\n\t_\n\tB\n", "B C"),
    ],
)
def test_a_go_constant_without_a_value_counts_with_its_place(
    part: str, other: str, names: str
) -> None:
    before = {s.name: s.body_hash for s in outline(GO_CONSTANTS, "go").symbols}
    text = GO_CONSTANTS.replace(part, other)
    after = {s.name: s.body_hash for s in outline(text, "go").symbols}
    assert text != GO_CONSTANTS
    assert [*before] == ["A", "B", "C", "D", "E"]
    assert sorted(name for name in before if before[name] != after[name]) == names.split()


def test_blanks_in_a_repeated_string_of_go_count() -> None:
    texts = [f'package p\nconst (\n\tA = "{text}"\n\tB\n)\n' for text in ("a b", "ab")]
    one, other = (outline(text, "go").symbols[1] for text in texts)
    assert one.body_hash != other.body_hash


@pytest.mark.parametrize(
    ("language", "text", "moved", "names"),
    [
        (
            "cpp",
            "class A {\n  void d();\npublic:\n  void f() {}\n  A();\nprivate:\n  void g();\n};\n",
            "class A {\n  void d();\npublic:\n  A();\nprivate:\n  void f() {}\n  void g();\n};\n",
            "A A.f",
        ),
        (
            "cpp",
            "struct A {\n  template <class T> void f();\nprotected:\n  void g();\n};\n",
            "struct A {\nprotected:\n  template <class T> void f();\n  void g();\n};\n",
            "A A.f",
        ),
        (
            "cpp",
            "class A {\n  void f();\n#ifdef B\nprivate:\n#endif\n  void g();\n};\n",
            "class A {\n  void f();\n#ifdef B\nprotected:\n#endif\n  void g();\n};\n",
            "A A.g",
        ),
        (
            "ruby",
            "class A\n  def f; end\n  private\n  def g; end\n  attr_reader :h\nend\n",
            "class A\n  private\n  def f; end\n  def g; end\n  attr_reader :h\nend\n",
            "A A.f",
        ),
        (
            "ruby",
            "class A\n  def f; end\n  private\n  attr_reader :h\n  public\n  def g; end\nend\n",
            "class A\n  def f; end\n  attr_reader :h\n  private\n  public\n  def g; end\nend\n",
            "A A.h",
        ),
        (
            "ruby",
            "class A\n  private def f; end\n  private\n  def g; end\nend\n",
            "class A\n  protected def f; end\n  private\n  def g; end\nend\n",
            "A A.f",
        ),
    ],
)
def test_who_may_call_a_method_counts(language: str, text: str, moved: str, names: str) -> None:
    before = {s.name: s.body_hash for s in outline(text, language).symbols}
    after = {s.name: s.body_hash for s in outline(moved, language).symbols}
    assert before.keys() == after.keys()
    assert sorted(name for name in before if before[name] != after[name]) == names.split()


@pytest.mark.parametrize(
    "text",
    [
        'import "C"\n' * 20_000,
        "//\n" * 100_000 + 'import "C"\n',
        "//go:x\n" * 50_000 + "func f() {}\n",
        "const (\n\tA = " + "1 + " * 50_000 + "1\n" + "\tB\n" * 4_000 + ")\n",
        "//\n\t// Output:\n" * 40_000,
    ],
    ids=["imports", "comments", "commands", "constants", "examples"],
)
def test_comments_that_count_take_time_that_grows_with_the_text(text: str) -> None:
    started = time.process_time()
    assert outline(f"package p\n{text}", "go").complete
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("#define F(x) (x + 1) // c\n", "#define F(x) (x  +  1)\n"),
        ("#define F(x) \\\n  (x)\n", "#define F(x) (x)\n"),
    ],
)
def test_macros_are_hashed_by_their_tokens(text: str, change: str) -> None:
    (before,), (after,) = outline(text, "c").symbols, outline(change, "c").symbols
    assert before.body_hash == after.body_hash


def test_a_macro_body_counts_and_so_does_the_space_in_its_strings() -> None:
    bodies = ["(x + 1)", "(x - 1)", '"a b"', '"a  b"']
    hashes = {outline(f"#define F(x) {body}\n", "c").symbols[0].body_hash for body in bodies}
    assert len(hashes) == len(bodies)


def test_a_decorator_counts_in_a_hash_and_in_the_lines() -> None:
    plain, marked = (outline(f"{mark}def f(): pass", "python") for mark in ("@a\n", "@b\n"))
    assert plain.symbols[0].start_line == 1
    assert plain.symbols[0].body_hash != marked.symbols[0].body_hash


def test_a_class_is_hashed_with_all_its_methods() -> None:
    before = outline("class A:\n    def f(self): return 1\n    def g(self): return 2\n", "python")
    after = outline("class A:\n    def f(self): return 1\n    def g(self): return 3\n", "python")
    changed = [
        a.name
        for a, b in zip(before.symbols, after.symbols, strict=True)
        if a.body_hash != b.body_hash
    ]
    assert changed == ["A", "A.g"]


def test_a_hash_does_not_depend_on_where_the_definition_stands() -> None:
    text = read("sample.py")
    moved = outline("import os\n\n\n" + text, "python").symbols
    found = outline(text, "python").symbols
    assert [s.body_hash for s in moved] == [s.body_hash for s in found]
    assert [s.start_line for s in moved] == [s.start_line + 3 for s in found]


@pytest.mark.parametrize(
    "name", ["sample.py", "sample.go", "sample.rs", "Sample.java", "sample.php"]
)
def test_a_piece_of_a_file_hashes_as_its_symbol_does(name: str) -> None:
    text = read(name)
    lines = text.split("\n")
    language = language_of(name)
    kinds = ("function", "class", "trait", "impl")
    symbols = [s for s in outline(text, language).symbols if s.kind in kinds and "." not in s.name]
    assert symbols
    for symbol in symbols:
        piece = "\n".join(lines[symbol.start_line - 1 : symbol.end_line])
        if not piece[0].isspace():
            assert body_hash(piece, language) == symbol.body_hash, symbol.name


def test_a_text_without_a_grammar_has_no_symbols_and_is_hashed_by_its_lines() -> None:
    found = outline("a: 1\nb: 2\n", "yaml")
    assert (found.language, found.lines, found.symbols, found.complete) == ("", 2, (), True)
    assert body_hash("a:\n\n  b \n", "yaml") == body_hash("a:\n  b", "yaml")
    assert body_hash("a:\n  b", "yaml") != body_hash("a:\nb", "yaml")


UGLY = """
import  os
@dec ( 1 )
class  A ( object ) :
    'Doc.'
    x = { 'a':1,'b' : [ 1,2,3 ] }
    def f( self,a,b = 1, *args,**kw )->int :
        '''Doc
        string.'''
        if a==b and not( a<b ):
            return  self.x [ 'a' ]+a*- b
        else :
            y = f'{ a }-{b!r}' ; print ( y )
        very_long_name_of_a_call ( 'an argument that is long', 'another argument, longer', key = lambda z : z+1 )
        return  0XFF
    async   def g ( self ) : pass
"""


def test_ruff_format_changes_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "ugly.py"
    path.write_text(UGLY, encoding="utf-8")
    ruff = Path(sys.executable).with_name("ruff")
    subprocess.run([ruff, "format", "--isolated", path], check=True, capture_output=True)
    pretty = path.read_text(encoding="utf-8")
    assert pretty != UGLY
    before, after = outline(UGLY, "python").symbols, outline(pretty, "python").symbols
    assert [(s.name, s.body_hash) for s in before] == [(s.name, s.body_hash) for s in after]
    assert [s.name for s in before] == ["A", "A.f", "A.g"]


def python_definitions(tree: ast.Module) -> list[tuple[str, int, int]]:
    found = []
    todo: list[tuple[ast.AST, tuple[str, ...]]] = [(tree, ())]
    while todo:
        node, around = todo.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = (*around, child.name)
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found.append((".".join(name), first, child.end_lineno or 0))
                todo.append((child, name))
            else:
                todo.append((child, around))
    return sorted(found)


def test_python_agrees_with_ast_over_the_standard_library() -> None:
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[::3][:60]
    assert len(paths) >= 50
    for path in paths:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library are not our concern
            expected = python_definitions(ast.parse(text))
        found = outline(text, "python")
        symbols = [s for s in found.symbols if s.kind not in ("constant", "type")]
        assert sorted((s.name, s.start_line, s.end_line) for s in symbols) == expected, path.name


def test_symbols_around_a_syntax_error_are_found() -> None:
    found = outline("def a():\n    return 1\n\ndef b(:\n\ndef c():\n    pass\n", "python")
    assert not found.complete
    assert {"a", "c"} <= {symbol.name for symbol in found.symbols}


def test_overloads_are_all_listed_in_order() -> None:
    found = outline("int f(int a) { return a; }\nint f(char b) { return b; }\n", "cpp").symbols
    assert [(s.name, s.start_line) for s in found] == [("f", 1), ("f", 2)]
    assert found[0].body_hash != found[1].body_hash


def test_a_licence_and_directives_are_no_description() -> None:
    text = "# Copyright 2020 X\n# Licensed under Y\n\n# noqa\n\n# What it does,\n# in short.\n\nA = 1\n"
    assert outline(text, "python").doc == "What it does, in short."
    assert (
        outline("// eslint-disable-next-line\nfunction f() {}\n", "javascript").symbols[0].doc == ""
    )


def test_a_comment_behind_code_describes_nothing() -> None:
    assert outline("x = 1  # one\ndef f(): pass\n", "python").symbols[0].doc == ""


def test_a_signature_is_one_line_without_comments_and_bounded() -> None:
    text = "def f(\n    a,  # first\n    b=(1,\n       2),\n):\n    pass\n"
    assert outline(text, "python").symbols[0].signature == "def f( a, b=(1, 2), )"
    long = outline(f"def f({', '.join(f'a{i}' for i in range(500))}): pass", "python").symbols[0]
    assert len(long.signature) == module.MAX_SIGNATURE
    assert long.signature.endswith("…")


SECRET = "gh" + "p_" + "a1B2c3D4e5F6" * 3
BEFORE_THE_CUT = "word " * 56 + "abc "  # 284 characters: the limit is inside what follows


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", f'"""{BEFORE_THE_CUT}{SECRET} x"""\n'),
        ("python", f'def f():\n    """{BEFORE_THE_CUT}{SECRET} x"""\n'),
        ("python", f"# {BEFORE_THE_CUT}{SECRET} x\ndef f(): pass\n"),
        ("python", f'def f(a="{BEFORE_THE_CUT[15:]}{SECRET}"): pass\n'),
        ("python", f'def f(a="{" " * 1170}{SECRET}"): pass\n'),
        ("javascript", f"/*{' ' * 3_980}{SECRET} */\nfunction f() {{}}\n"),
        ("markdown", f"# {BEFORE_THE_CUT}abcd {SECRET} x\n"),
        ("markdown", f"# Title\n\n{BEFORE_THE_CUT}{SECRET} x\n"),
        ("markdown", f"{BEFORE_THE_CUT}{SECRET} x\n"),
        ("markdown", f"{' ' * 1_180}{SECRET} x\n"),
        ("rst", f"{BEFORE_THE_CUT}abcd {SECRET} x\n{'=' * 400}\n"),
    ],
)
def test_a_cut_leaves_no_half_of_a_secret(language: str, text: str) -> None:
    found = outline(text, language)
    assert SECRET[:8] not in redact(repr(found)).text


@pytest.mark.parametrize("language", ANY_LANGUAGE)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "(" * 10_000 + ")" * 10_000,
        "x = " + "[" * 10_000 + "]" * 10_000,
        "{" * 10_000,
        "a<" * 20_000,
        '"' * 10_001,
        "`${" * 3_000,
        "\ud800\udfff \0 \f \r \x1a \u2028",
    ],
    ids=[
        "empty",
        "newline",
        "parentheses",
        "brackets",
        "braces",
        "angles",
        "quotes",
        "tmpl",
        "odd",
    ],
)
def test_no_text_breaks_the_outline(language: str, text: str) -> None:
    found = outline(text, language)
    assert found.lines == text.count("\n") + (1 if text and not text.endswith("\n") else 0)
    assert found.symbols == ()
    assert len(body_hash(text, language)) == 16


@pytest.mark.parametrize("language", [*ANY_LANGUAGE, "markdown", "rst", "text"])
@given(text=st.text(st.sampled_from("ab1 \n\t(){}[]<>;:,.'\"`#/*$@=-\\\r\0é"), max_size=60))
def test_any_text_has_an_outline_with_lines_inside_it(language: str, text: str) -> None:
    found = outline(text, language)
    assert all(1 <= s.start_line <= s.end_line <= max(found.lines, 1) for s in found.symbols)
    assert len(body_hash(text, language)) == 16


def test_a_line_of_100_megabytes_is_only_counted() -> None:
    found = outline("a" * 100_000_000, "python")
    assert (found.lines, found.symbols, found.complete) == (1, (), False)


def test_deeply_nested_functions_are_listed_down_to_a_bound() -> None:
    found = outline("function f(){" * 3_000 + "}" * 3_000, "javascript")
    assert len(found.symbols) == module.MAX_DEPTH
    assert not found.complete


def test_a_file_with_too_many_symbols_is_cut_and_says_so() -> None:
    found = outline("def f(): pass\n" * (module.MAX_SYMBOLS + 1), "python")
    assert len(found.symbols) == module.MAX_SYMBOLS
    assert not found.complete


def test_nul_bytes_form_feeds_and_lone_surrogates_hide_nothing() -> None:
    text = 'x = "\ud800"\r\n\f\r\n\0\r\ndef f(): pass\r\n'
    (symbol,) = outline(text, "python").symbols
    assert (symbol.name, symbol.start_line) == ("f", 4)


def test_objects_without_a_name_have_no_members_but_functions_inside_them_count() -> None:
    text = "on({a() {}, b: () => { function inner() {} }}); list.map((x) => x);"
    assert names(text, "javascript") == ["inner"]


def test_threads_get_the_same_outline() -> None:
    text = read("sample.py") * 20
    expected = outline(text, "python")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(outline(text, "python"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_importing_the_outline_loads_no_parser() -> None:
    code = "import sys, stratum.outline; print([m for m in sys.modules if 'tree_sitter' in m])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


MACROS = """\
#ifdef __cplusplus
extern "C" {
#endif
LIB_BEGIN_NAMESPACE
LIB_BEGIN_EXPORT

// The colours there are.
enum class colour : int { red, green };

class text_style {
 public:
  LIB_CONSTEXPR text_style(colour c) noexcept
      : colour_(c) {}
  LIB_CONSTEXPR auto operator!=(text_style rhs) const noexcept -> bool {
    return colour_ != rhs.colour_;
  }
};

int LIB_API render(text_style s);
LIB_END_EXPORT
LIB_END_NAMESPACE
#ifdef __cplusplus
}
#endif
"""


def test_macros_that_stand_for_keywords_do_not_hide_what_is_declared() -> None:
    found = outline(MACROS, "cpp")
    assert found.complete
    assert [(s.start_line, s.end_line, s.kind, s.name) for s in found.symbols] == [
        (8, 8, "enum", "colour"),
        (10, 17, "class", "text_style"),
        (12, 13, "constructor", "text_style.text_style"),
        (14, 16, "method", "text_style.operator!="),
        (19, 19, "function", "render"),
    ]
    assert found.symbols[0].doc == "The colours there are."
    assert found.symbols[4].signature == "int LIB_API render(text_style s)"


def test_a_macro_that_the_parser_does_not_see_still_counts_in_the_hash() -> None:
    def hashes(text: str) -> dict[str, str]:
        return {s.name: s.body_hash for s in outline(text, "cpp").symbols}

    before, after = hashes(MACROS), hashes(MACROS.replace("LIB_API", "LIB_CALL"))
    assert {name for name in before if before[name] != after[name]} == {"render"}


def test_constants_in_capitals_are_no_macros() -> None:
    text = "enum level {\n  LOW,\n  HIGH\n};\nDWORD size(HANDLE file);\nint broken(;\n"
    names = [symbol.name for symbol in outline(text, "c").symbols]
    assert names[:2] == ["level", "size"]


@pytest.mark.parametrize(
    "piece", ["ABCD ", "ABCD(", "/*", "'\\", '"\\', "#\\\n", "ABCD a<", "ABCD\n"]
)
def test_looking_for_macros_takes_time_that_grows_with_the_text(piece: str) -> None:
    source = (piece * 40_000).encode()
    masked, _ = grammars._mask_macros(source)
    assert len(masked) == len(source)
    assert masked.count(b"\n") == source.count(b"\n")


def test_a_test_written_as_a_macro_is_named_by_its_arguments() -> None:
    (symbol,) = outline("TEST(queue, keeps_order) {\n  EXPECT_EQ(1, 1);\n}\n", "cpp").symbols
    assert (symbol.name, symbol.start_line, symbol.end_line) == ("queue.keeps_order", 1, 3)


def test_an_enum_class_makes_a_header_one_of_cpp() -> None:
    assert language_of("colour.h", "enum class colour : int { red };\n") == "cpp"
