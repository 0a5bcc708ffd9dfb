// The table of cells shows those that a pattern holds; the links beside the numbers set it.
const only = document.getElementById("only");
if (only) {
  const rows = [...document.querySelectorAll("#of-cells tbody tr")];
  const command = document.getElementById("command");
  const show = () => {
    const escaped = only.value.trim().replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
    const pattern = new RegExp(escaped ? `^${escaped}$` : "");
    const wanted = rows.filter((row) => !(row.hidden = !pattern.test(row.dataset.cell)));
    command.textContent = `${command.dataset.study} --only '${only.value.trim() || "*"}'`;
    document.getElementById("count").textContent = `${wanted.length} of ${rows.length}`;
  };
  only.addEventListener("input", show);
  for (const link of document.querySelectorAll("a.cells")) {
    link.addEventListener("click", () => { only.value = link.textContent; show(); });
  }
  document.getElementById("filter").hidden = false;
  show();
}
