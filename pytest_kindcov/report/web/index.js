// The first page: find, sort, fold, and what one test ran. The page can be read without it.
"use strict";
(() => {
  const MANY = 40; // rows from which on packages are folded, and tests cut short, at the beginning
  const { tests } = window.kindcov || { tests: [] };
  const { files, ran } = window.kindcovRan || { files: [], ran: [] };
  const root = document.documentElement;
  root.classList.add("js");

  const make = (tag, text = "", attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const counted = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

  // Sorting, of every table. Figures fall first, names rise first.
  const text = (tr, column) => tr.cells[column]?.textContent.trim() ?? "";
  const value = (tr, column) => {
    const figure = Number(text(tr, column).replace(/[,%s]/g, ""));
    return column && !Number.isNaN(figure) ? figure : text(tr, column);
  };
  const order = (column, down) => (one, other) => {
    const a = value(one, column), b = value(other, column);
    const way = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return down ? -way : way;
  };
  const sort = (table, column, down) => {
    const by = order(column, down);
    if (table === packages?.table) packages.sort(by);
    else {
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(by));
    }
    [...table.tHead.rows[0].cells].forEach((th, at) =>
      at === column ? th.setAttribute("aria-sort", down ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
  };
  const sortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((th, column) => {
      if (!th.textContent) return;
      const button = make("button", th.textContent);
      th.replaceChildren(button);
      button.addEventListener("click", () => {
        const now = th.getAttribute("aria-sort");
        sort(table, column, now ? now === "ascending" : column > 0);
      });
    });
  };

  // Packages and files.
  const tableOfPackages = document.querySelector("table.packages");
  const packages = tableOfPackages && (() => {
    const table = tableOfPackages;
    const groups = [...table.tBodies].map((body) => ({
      body, head: body.rows[0], files: [...body.rows].slice(1), open: false,
    }));
    const all = groups.flatMap((group) => group.files);
    const flatBody = make("tbody");
    let flat = false, words = [], lines = null;

    const fits = (name) => words.every((word) => name.includes(word));
    const show = () => {
      let seen = 0;
      for (const group of groups) {
        const head = group.head.cells[0].textContent.toLowerCase();
        let any = false;
        for (const tr of group.files) {
          const name = `${head} ${tr.cells[0].textContent.toLowerCase()}`;
          const hit = fits(name) && (!lines || lines.has(tr.dataset.page));
          any ||= hit;
          seen += hit;
          tr.hidden = !hit || !(flat || group.open || words.length || lines);
        }
        group.body.hidden = flat || !any;
        group.fold.setAttribute("aria-expanded", group.open || words.length || lines ? "true" : "false");
      }
      flatBody.hidden = !flat;
      count.textContent = words.length || lines ? counted(seen, "file") : "";
      table.tFoot.hidden = Boolean(words.length || lines);
    };
    for (const tr of all) {
      const link = tr.querySelector("a");
      tr.dataset.page = link.getAttribute("href").split("/").at(-1);
    }
    for (const group of groups) {
      const cell = group.head.cells[0];
      group.fold = make("button", "", { class: "fold" });
      group.fold.append(...cell.childNodes);
      cell.append(group.fold);
      group.open = all.length <= MANY;
      group.fold.addEventListener("click", () => {
        group.open = !group.open;
        show();
      });
    }
    table.append(flatBody);

    const tools = make("div", "", { class: "tools" });
    const field = make("input", "", { type: "search", placeholder: "Find packages and files…", "aria-label": "Find packages and files" });
    const count = make("span", "", { class: "found", role: "status" });
    field.addEventListener("input", () => {
      words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      show();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") [...table.querySelectorAll(".file a")].find((link) => link.checkVisibility())?.click();
      if (event.key === "Escape") field.blur();
    });
    const views = [["By package", false], ["All files", true]].map(([title, want]) => {
      const button = make("button", title, { "aria-pressed": String(!want) });
      button.addEventListener("click", () => {
        flat = want;
        views.forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
        table.classList.toggle("flat", flat);
        if (flat) flatBody.append(...all);
        else for (const group of groups) group.body.append(...group.files);
        const sorted = table.querySelector("[aria-sort]");
        if (sorted) sort(table, sorted.cellIndex, sorted.getAttribute("aria-sort") === "descending");
        show();
      });
      return button;
    });
    tools.append(field, ...views, count);
    table.parentNode.before(tools);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && event.target.localName !== "input") {
        field.focus();
        event.preventDefault();
      }
    });
    return {
      table, show,
      sort(by) {
        if (flat) flatBody.append(...all.sort(by));
        else {
          for (const group of groups) group.body.append(...group.files.sort(by));
          for (const group of groups.sort((a, b) => by(a.head, b.head))) table.append(group.body);
        }
        table.append(flatBody);
      },
      // Show the files of `found` alone, a map from page to lines, and lead to them with `hash`.
      limit(found, hash) {
        lines = found;
        for (const tr of all) {
          const link = tr.querySelector("a");
          link.setAttribute("href", `${link.getAttribute("href").split("#")[0]}${hash}`);
          tr.querySelector(".by")?.remove();
          if (found?.has(tr.dataset.page)) {
            tr.cells[0].append(make("span", `${counted(found.get(tr.dataset.page), "line")} by this test`, { class: "by" }));
          }
        }
        show();
      },
    };
  })();
  document.querySelectorAll("main table").forEach(sortable);
  packages?.show();

  // A test: the files that it ran. Its key is in the URL: #t=0a1b2c3d4e5f.
  const chosen = make("p", "", { class: "note chosen", hidden: "" });
  tableOfPackages?.parentNode.before(chosen);
  const follow = () => {
    const key = location.hash.startsWith("#t=") ? location.hash.slice(3) : "";
    const at = tests.findIndex(([one]) => one === key);
    document.querySelectorAll("table.tests tr.here").forEach((tr) => tr.classList.remove("here"));
    chosen.hidden = at < 0;
    if (at < 0) {
      packages?.limit(null, "");
      return;
    }
    const found = new Map();
    for (let one = 0; one < ran[at].length; one += 2) found.set(files[ran[at][one]], ran[at][one + 1]);
    document.getElementById(`t=${key}`)?.classList.add("here");
    const clear = make("a", "show all", { href: "#packages" });
    const sum = [...found.values()].reduce((a, b) => a + b, 0);
    const name = tests[at][1];
    chosen.replaceChildren(
      make("bdi", name.length > 160 ? `${name.slice(0, 80)}…${name.slice(-80)}` : name, { title: name }),
      ` ran ${counted(sum, "line")} in ${counted(found.size, "file")}. `, clear);
    packages?.limit(found, `#t=${key}`);
    chosen.scrollIntoView({ block: "start" });
  };
  addEventListener("hashchange", follow);

  // Many tests: the first ones, and what is looked for.
  const table = document.querySelector("table.tests");
  if (table) {
    let whole = table.tBodies[0].rows.length <= MANY;
    const tools = make("div", "", { class: "tools" });
    const field = make("input", "", { type: "search", placeholder: "Find tests…", "aria-label": "Find tests" });
    const more = make("button", `Show all ${counted(table.tBodies[0].rows.length, "test")}`);
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let seen = 0;
      for (const tr of table.tBodies[0].rows) {
        const name = tr.cells[0].textContent.toLowerCase();
        const hit = words.every((word) => name.includes(word));
        seen += hit;
        tr.hidden = !hit || (!whole && seen > MANY);
      }
      more.hidden = whole;
    };
    field.addEventListener("input", show);
    more.addEventListener("click", () => {
      whole = true;
      show();
    });
    new MutationObserver(show).observe(table.tHead, { attributes: true, subtree: true, attributeFilter: ["aria-sort"] });
    tools.append(field);
    table.parentNode.before(tools);
    table.parentNode.after(more);
    show();
  }
  follow();
})();
