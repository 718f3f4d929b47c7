"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const names = {"": "as the system has it", light: "light", dark: "dark"};
  const faces = {"": "◐", light: "☀", dark: "☾"};
  const kept = {
    get() { try { return localStorage.getItem("staging-theme") || ""; } catch { return ""; } },
    set(value) { try { localStorage.setItem("staging-theme", value); } catch { /* private window: not kept */ } },
  };
  const wear = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    button.setAttribute("aria-label", "Colours: " + names[theme]);
    button.firstElementChild.textContent = faces[theme];
  };
  let theme = kept.get();
  if (!(theme in names)) theme = "";
  wear(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const order = dark ? ["", "light", "dark"] : ["", "dark", "light"];
    theme = order[(order.indexOf(theme) + 1) % 3];
    kept.set(theme);
    wear(theme);
  });

  const tip = document.getElementById("tip");
  const spoken = document.getElementById("spoken");
  let lit = null;
  let keyed = false;
  const hide = () => {
    tip.hidden = true;
    if (lit) lit.classList.remove("lit");
    lit = null;
  };
  const show = (mark) => {
    if (mark === lit) return;
    hide();
    lit = mark;
    mark.classList.add("lit");
    const [first, ...rest] = mark.dataset.tip.split(" | ");
    const head = document.createElement("b");
    head.textContent = first;
    tip.replaceChildren(head, ...rest.map((line) => {
      const part = document.createElement("span");
      part.textContent = line;
      return part;
    }));
    tip.hidden = false;
    put(mark);
  };
  const put = (mark) => {
    const at = mark.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(at.left + at.width / 2 - own.width / 2, 8), innerWidth - own.width - 8);
    const above = at.top - own.height - 10;
    tip.style.left = Math.max(left, 8) + "px";
    tip.style.top = (above > 60 ? above : at.bottom + 10) + "px";
  };
  const reach = (mark, x, y) => {
    const box = mark.getBoundingClientRect();
    return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  };
  for (const plot of document.querySelectorAll(".plot")) {
    const marks = [...plot.querySelectorAll("[data-tip]")];
    if (!marks.length) continue;
    let place = -1;
    const go = (to) => {
      place = Math.min(Math.max(to, 0), marks.length - 1);
      keyed = true;
      show(marks[place]);
      spoken.textContent = marks[place].dataset.tip.replaceAll(" | ", ", ");
    };
    plot.addEventListener("pointermove", (event) => {
      let best = null, least = 16;
      for (const mark of marks) {
        const far = reach(mark, event.clientX, event.clientY);
        if (far < least) { least = far; best = mark; }
      }
      keyed = false;
      if (best) show(best); else hide();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) go(Math.max(place, 0)); });
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (step) go(place + step);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(marks.length - 1);
      else if (event.key === "Escape") hide();
      else return;
      event.preventDefault();
    });
  }
  // The page scrolls to what takes the focus: what the keyboard shows goes along, what the mouse points at does not.
  addEventListener("scroll", () => { if (keyed && lit) put(lit); else hide(); }, {passive: true});
})();
