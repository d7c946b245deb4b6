// Before the first paint, so that a page kept dark does not flash; all else of the theme is in main.js.
try {
  const kept = localStorage.getItem('stratum.theme');
  if (kept === 'light' || kept === 'dark') {
    document.documentElement.dataset.theme = kept;
  }
} catch {
  // Storage is switched off: the system's theme holds.
}
