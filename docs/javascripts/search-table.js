// A field above a long table that keeps the rows with the words a reader types.
// Without this script, as on GitHub, the table is shown whole.
function searchable(block) {
  const rows = [...block.querySelectorAll("tbody tr")];
  const field = document.createElement("input");
  const count = document.createElement("output");
  field.type = "search";
  field.placeholder = "network or zoo";
  field.setAttribute("aria-label", "Search the table");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = `${left} of ${rows.length}`;
  });
  field.dispatchEvent(new Event("input"));
  block.prepend(field, count);
}

document.querySelectorAll(".searchable").forEach(searchable);
