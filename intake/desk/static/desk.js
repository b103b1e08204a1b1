// Keys, and one sending of a form; every page works without it.
(() => {
  const $ = (s) => document.querySelector(s), store = "hoso24-keys";
  let on = true;
  try { on = localStorage[store] !== "off"; } catch { /* no storage: keys are on */ }
  const toggle = $("#keys");
  const show = () => { toggle.textContent = on ? toggle.dataset.on : toggle.dataset.off; };
  if (toggle) {
    toggle.hidden = false;
    show();
    toggle.onclick = () => {
      on = !on;
      try { localStorage[store] = on ? "on" : "off"; } catch { /* for this page only */ }
      show();
    };
  }
  const step = (by) => {
    const rows = [...document.querySelectorAll("tr a[data-row]")];
    const at = rows.indexOf(document.activeElement);
    (rows[at < 0 ? 0 : at + by] || rows[at])?.focus();
  };
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || e.repeat) return;
    const named = /^F\d$/.test(e.key), key = named || e.key === "/" ? e.key : e.key.toUpperCase();
    if (key.length > 2 || (!named && (!on || e.target.closest("input:not([type=checkbox],[type=radio]),textarea,select")))) return;
    const wanted = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!wanted && !"JK".includes(key)) return;
    e.preventDefault();
    if (!wanted) step(key === "J" ? 1 : -1);
    else if (wanted.matches("input,textarea,select")) { wanted.focus(); wanted.select?.(); }
    else {
      wanted.click();
      if (wanted.parentElement.open) wanted.parentElement.querySelector("input:not([type=hidden]),select,textarea,button")?.focus();
    }
  });
  addEventListener("submit", (e) => {
    if (e.target.method !== "post" || e.target.target) return;
    if (e.target.dataset.sent) e.preventDefault();
    e.target.dataset.sent = "1";
  });
  addEventListener("pageshow", () => document.querySelectorAll("form").forEach((f) => delete f.dataset.sent));
})();
