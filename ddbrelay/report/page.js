"use strict";
{
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  for (const hit of document.querySelectorAll(".hit")) {
    const title = hit.querySelector("title");
    const parts = title.textContent.split(" · ");
    title.remove();
    const show = (event) => {
      tip.replaceChildren(...parts.map((part) => {
        const line = document.createElement("div");
        line.textContent = part;
        return line;
      }));
      tip.hidden = false;
      const box = tip.getBoundingClientRect();
      const left = Math.min(Math.max(event.clientX - box.width / 2, 8), innerWidth - box.width - 8);
      const above = event.clientY - box.height - 14;
      tip.style.left = `${left}px`;
      tip.style.top = `${above < 8 ? event.clientY + 18 : above}px`;
    };
    hit.addEventListener("pointermove", show);
    hit.addEventListener("pointerdown", show);
    hit.addEventListener("pointerleave", hide);
  }
  addEventListener("scroll", hide, { passive: true });

  for (const chart of document.querySelectorAll(".chart")) {
    const fills = chart.querySelectorAll(".fill");
    const entries = chart.querySelectorAll(".legend li");
    if (fills.length < 2) continue;
    const toggle = (entry) => {
      const on = entry.getAttribute("aria-pressed") !== "true";
      for (const one of entries) one.setAttribute("aria-pressed", String(on && one === entry));
      for (const fill of fills) {
        fill.classList.toggle("on", fill.classList.contains(entry.dataset.series));
      }
      chart.classList.toggle("lit", on);
    };
    for (const entry of entries) {
      entry.setAttribute("role", "button");
      entry.setAttribute("aria-pressed", "false");
      entry.tabIndex = 0;
      entry.addEventListener("click", () => toggle(entry));
      entry.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle(entry);
      });
    }
  }
}
