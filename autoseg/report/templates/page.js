"use strict";
// Tables are sorted by a button in each column title; without this script they are read as they are.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const key = (row, index) => row.cells[index].dataset.order ?? row.cells[index].textContent;
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const absent = (text) => text === "–" || text === "";
      const rows = [...body.rows].sort((one, two) => {
        const a = key(one, index), b = key(two, index);
        if (absent(a) || absent(b)) return absent(a) - absent(b);
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
