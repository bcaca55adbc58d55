// Every number of the page as CSV files: one beside each chart, map and table, and all of them in one archive.

const SAVED = []; // {what, rows()} of every control, in reading order

const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet would compute, were it no number

function csvText(rows) {
  const quote = (cell) => {
    const written = cell === null || cell === undefined ? "" : String(cell);
    const text = FORMULA.test(written) && Number.isNaN(Number(written)) ? `'${written}` : written;
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return rows.map((row) => row.map(quote).join(",")).join("\n") + "\n";
}

const fileName = (what, ending) => `${what}.${ending}`.replace(/[^\w.-]+/g, "-");

/** Offers a file for saving. parts: of a Blob. */
function save(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function csvButton(what, rows, label = "CSV") {
  SAVED.push({ what, rows });
  const button = element("button", { type: "button", class: "csv", "aria-label": `Save ${what} as CSV` }, label);
  button.addEventListener("click", () => save(fileName(`${RUN.name}-${what}`, "csv"), [csvText(rows())], "text/csv"));
  return button;
}

const NUMBER = "data[value]";

/** What a cell holds, by name: its numbers by their keys, or its text (a number without a key likewise) under no name. */
function cellValues(cell) {
  const found = new Map();
  for (const { value, dataset } of cell.querySelectorAll(NUMBER)) {
    const key = dataset.key || "";
    let name = key;
    for (let times = 2; found.has(name); times++) name = `${key} ${times}`.trim();
    found.set(name, value);
  }
  if (!found.size && !cell.querySelector("svg")) found.set("", cell.textContent.trim().replace(/^–$/, ""));
  return found;
}

/** Rows of a table. A column whose numbers have names becomes one for each name; a column of drawings, none. */
function tableRows(node) {
  const [titles, ...rows] = [...node.rows].map((row, i) => [...row.cells].map((cell) => (i ? cellValues(cell) : cell.textContent.trim())));
  const columns = titles.flatMap((title, at) => {
    const names = new Set(rows.flatMap((row) => [...row[at]].filter(([name, value]) => name || value).map(([name]) => name)));
    if (!names.size && (!rows.length || rows.some((row) => row[at].size))) names.add("");
    return [...names].map((name) => ({ title: `${title} ${name}`.trim(), at, name }));
  });
  return [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ at, name }) => row[at].get(name)))];
}

/** The numbers that stand outside tables and charts, by section, part of it and name. */
function textRows(page) {
  const found = [...page.querySelectorAll(NUMBER)].filter((data) => !data.closest("table[data-csv], .copy"));
  const section = (data) => data.closest("main > section")?.querySelector("h2").textContent || "";
  const part = (data) => data.closest(".verdict")?.querySelector(".headline")?.lastElementChild.textContent || data.closest("div")?.querySelector("dt")?.textContent || "";
  const row = (data) => data.closest("tr")?.cells[0].textContent || "";
  return [["section", "part", "row", "what", "value"], ...found.map((data) => [section(data), part(data), row(data), data.dataset.key || "", data.value])];
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** A ZIP archive (APPNOTE.TXT 6.3) of uncompressed files, as parts of a Blob. files: [[name, text]]. */
function zip(files) {
  const local = [], central = [], encode = new TextEncoder();
  let at = 0, length = 0;
  for (const [name, text] of files) {
    const path = encode.encode(name), bytes = encode.encode(text);
    let crc = -1;
    for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
    // version, flags (names in UTF-8), method, time, date (1 January 1980), CRC-32, sizes, length of the name, no extra field
    const common = [[20, 2], [0x800, 2], [0, 2], [0, 2], [33, 2], [~crc, 4], [bytes.length, 4], [bytes.length, 4], [path.length, 2], [0, 2]];
    local.push(fields([[0x04034b50, 4], ...common]), path, bytes);
    central.push(fields([[0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]]), path);
    at += 30 + path.length + bytes.length;
    length += 46 + path.length;
  }
  const end = fields([[0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [length, 4], [at, 4], [0, 2]]);
  return [...local, ...central, end];
}

/** Little-endian numbers of 2 or 4 bytes. */
function fields(list) {
  return Uint8Array.from(list.flatMap(([value, size]) => Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 255)));
}

/** All files of the page under names of their own. */
function archive() {
  const taken = new Map();
  return zip(SAVED.map(({ what, rows }) => {
    const name = fileName(what, "csv"), times = (taken.get(name) || 0) + 1;
    taken.set(name, times);
    return [times === 1 ? name : fileName(`${what}-${times}`, "csv"), csvText(rows())];
  }));
}
