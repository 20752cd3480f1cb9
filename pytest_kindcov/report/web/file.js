// A page of one source file: who ran a line, what a test ran, keys. The page can be read without it.
"use strict";
(() => {
  // Set by run.js: contexts as [name, kind, test or -1], tests as [key, name].
  const { contexts, tests } = window.kindcov || { contexts: [], tests: [] };
  const EXACT = 0, SHARED = 1, OUTSIDE = 2;
  const SHOWN = 160; // characters of a name
  const root = document.documentElement;
  const header = document.querySelector("header");
  const rows = [...document.querySelectorAll(".code > li")];
  const row = new Map(rows.map((li) => [+li.id.slice(1), li]));
  root.classList.add("js");

  const make = (tag, text = "", attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const cut = (text) =>
    text.length <= SHOWN ? text : `${text.slice(0, SHOWN / 2)}…${text.slice(-SHOWN / 2)}`;
  const counted = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

  // Sets of contexts. A row names its set in its link: #s12.
  const members = new Map();
  for (const section of document.querySelectorAll(".sets section")) {
    const found = [];
    const numbers = section.dataset.c ?? section.querySelector("p").textContent;
    for (const part of numbers.split(" ")) {
      const [first, last = first] = part.split("-").map(Number);
      for (let one = first; one <= last; one++) found.push(one - 1);
    }
    members.set(section.id, found);
  }
  const setOf = (li) => li.querySelector(":scope > a")?.getAttribute("href").slice(1);
  const testsOf = (set) => new Set(members.get(set).map((one) => contexts[one][2]));

  // The state: a line and a test, both in the URL: #L12&t=0a1b2c3d4e5f.
  let line = 0, test = -1;
  const remember = () => {
    const parts = [];
    if (line) parts.push(`L${line}`);
    if (test >= 0) parts.push(`t=${tests[test][0]}`);
    const url = parts.length ? `#${parts.join("&")}` : location.pathname + location.search;
    history.replaceState(null, "", url);
    // The test that is chosen stays so in the next file.
    for (const link of document.querySelectorAll("nav a")) link.hash = test < 0 ? "" : `t=${tests[test][0]}`;
  };
  const go = (to, scroll = true) => {
    row.get(line)?.classList.remove("here");
    line = row.has(to) ? to : 0;
    if (line) {
      row.get(line).classList.add("here");
      if (scroll) row.get(line).scrollIntoView({ block: "center" });
    }
    remember();
  };

  // Who ran a line.
  const who = make("aside", "", { id: "who", hidden: "", "aria-live": "polite" });
  document.body.append(who);
  const list = (title, which) => {
    if (!which.length) return;
    const items = make("ul");
    for (const one of which) {
      const [name, , whose] = contexts[one];
      const item = make("li");
      const text = make(whose < 0 ? "span" : "button", cut(name), { title: name });
      if (whose >= 0) {
        text.addEventListener("click", () => {
          who.hidden = true;
          choose(whose);
        });
      }
      item.append(text);
      items.append(item);
    }
    who.append(make("h4", title), items);
  };
  const show = (number) => {
    const all = members.get(setOf(row.get(number)));
    const of = (kind) => all.filter((one) => contexts[one][1] === kind);
    const count = (which) => counted(new Set(which.map((one) => contexts[one][2])).size, "test");
    const close = make("button", "×", { "aria-label": "close" });
    close.addEventListener("click", () => (who.hidden = true));
    who.replaceChildren(close, make("h3", `Line ${number}`));
    list(`${count(of(EXACT))} ran it`, of(EXACT));
    list(`${count(of(SHARED))} may have run it; others used the instance too`, of(SHARED));
    list("Outside of tests", of(OUTSIDE));
    who.hidden = false;
    who.scrollTop = 0;
  };

  // What a test ran: all else is dimmed.
  const tools = make("div", "", { class: "tools" });
  const own = [...new Set([...members.keys()].flatMap((set) => [...testsOf(set)]))]
    .filter((one) => one >= 0).sort((a, b) => a - b);
  const field = make("input", "", {
    type: "search", list: "tests", "aria-label": "Test, or number of a line",
    placeholder: own.length ? "Lines that a test ran, or a line's number…" : "A line's number…",
  });
  const options = make("datalist", "", { id: "tests" });
  const found = make("span", "", { class: "found", role: "status" });
  for (const one of own) options.append(make("option", "", { value: tests[one][1] }));
  const steps = [];
  // Lines that `jump` leads to.
  const isMark = (li) =>
    li && (test >= 0 ? !li.classList.contains("dim") : li.matches(".m, .p"));
  const choose = (to) => {
    test = to;
    const hit = new Set([...members.keys()].filter((set) => test >= 0 && testsOf(set).has(test)));
    let count = 0;
    for (const li of rows) {
      const ran = hit.has(setOf(li));
      count += ran;
      li.classList.toggle("dim", test >= 0 && !ran);
    }
    field.value = test >= 0 ? tests[test][1] : "";
    for (const button of steps) button.disabled = !rows.some(isMark);
    for (const what of tools.querySelectorAll(".what")) what.textContent = test >= 0 ? "it ran" : "not run";
    found.textContent = test >= 0 ? `ran ${counted(count, "line")} here` : "";
    draw();
    remember();
  };
  const pick = () => {
    const text = field.value.trim();
    if (/^\d+$/.test(text)) {
      choose(test); // the field says again what is chosen
      const to = [...row.keys()].find((number) => number >= Number(text)) ?? 0;
      if (to) go(to);
      field.blur();
      return;
    }
    const exact = own.find((one) => tests[one][1] === text);
    const alike = own.filter((one) => tests[one][1].includes(text));
    if (!text) choose(-1);
    else if (exact !== undefined) choose(exact);
    else if (alike.length === 1) choose(alike[0]);
    else found.textContent = alike.length ? `${counted(alike.length, "test")} match` : "no test matches";
  };
  field.addEventListener("change", pick);
  field.addEventListener("input", () => {
    if (!field.value || own.some((one) => tests[one][1] === field.value)) pick();
  });

  // From one place that was not run to the next; while a test is chosen, of those that it ran.
  const jump = (step) => {
    const begins = rows.filter((li, at) => isMark(li) && !isMark(rows[at - 1]));
    const numbers = begins.map((li) => +li.id.slice(1));
    const from = line || (step > 0 ? 0 : Infinity);
    const to = step > 0 ? numbers.find((n) => n > from) : numbers.findLast((n) => n < from);
    if (numbers.length) go(to ?? (step > 0 ? numbers[0] : numbers.at(-1)));
  };
  for (const [text, key, step] of [["next", "n", 1], ["previous", "p", -1]]) {
    const button = make("button", `${text} `);
    steps.push(button);
    button.append(make("span", "not run", { class: "what" }), " ", make("kbd", key));
    button.addEventListener("click", () => jump(step));
    tools.append(button);
  }
  tools.prepend(field, options, found);
  const help = make("dialog", "", { "aria-label": "Keys" });
  const keys = make("dl");
  for (const [key, what] of [
    ["n", "next lines that were not run; of a chosen test: that it ran"], ["p", "previous ones"],
    ["/", "choose a test, or go to a line"], ["Esc", "close, choose no test"],
    ["]", "next file"], ["[", "previous file"], ["u", "all packages"], ["?", "these keys"],
  ]) {
    const term = make("dt");
    term.append(make("kbd", key));
    keys.append(term, make("dd", what));
  }
  help.append(make("h2", "Keys"), keys);
  help.addEventListener("click", () => help.close());
  document.body.append(help);
  const ask = make("button", "", { "aria-label": "keys" });
  ask.append(make("kbd", "?"));
  ask.addEventListener("click", () => help.showModal());
  tools.append(ask);
  header.append(tools);
  // Lines that are led to stand below what stays at the top.
  const makeRoom = () =>
    (root.style.scrollPaddingTop = getComputedStyle(header).position === "sticky" ? `${header.offsetHeight + 40}px` : "");
  addEventListener("resize", makeRoom);
  makeRoom();

  document.addEventListener("keydown", (event) => {
    const graph = event.getModifierState("AltGraph"); // it makes a bracket on many keyboards
    if (((event.ctrlKey || event.metaKey || event.altKey) && !graph) || help.open) return;
    if (event.key === "Escape") {
      if (!who.hidden) who.hidden = true;
      else choose(-1);
      field.blur();
    } else if (event.target !== field) {
      const step = { n: 1, j: 1, p: -1, k: -1 }[event.key];
      const way = { "]": "next", "[": "prev", u: "up" }[event.key];
      if (step) jump(step);
      else if (way) document.querySelector(`nav [rel=${way}]`)?.click();
      else if (event.key === "/") field.focus();
      else if (event.key === "?") help.showModal();
      else return;
      event.preventDefault();
    }
  });
  document.querySelector(".code").addEventListener("click", (event) => {
    const li = event.target.closest(".code > li");
    const link = event.target.closest("li > a");
    // A line's number is no element: what stands left of the code is meant.
    const left = event.clientX - li.getBoundingClientRect().left < parseFloat(getComputedStyle(li).paddingLeft);
    if (!link && !left) return;
    event.preventDefault();
    const number = +li.id.slice(1);
    go(number, false);
    if (setOf(li)) show(number);
    else who.hidden = true;
  });

  // The whole file as a strip at the right.
  const map = make("canvas", "", { class: "map", "aria-hidden": "true" });
  document.body.append(map);
  function draw() {
    const style = getComputedStyle(root);
    const colours = Object.fromEntries(
      [["r", "--run"], ["p", "--part"], ["m", "--miss"], ["e", "--focus"], ["u", "--part"]]
        .map(([c, v]) => [c, style.getPropertyValue(v)]));
    map.width = 12;
    map.height = innerHeight;
    const pen = map.getContext("2d");
    const last = rows.length ? +rows.at(-1).id.slice(1) : 1;
    const step = Math.min(map.height / last, 4);
    for (const li of rows) {
      const colour = colours[li.classList[1]] ?? colours[li.classList[0]];
      if (!colour || li.classList.contains("dim")) continue;
      pen.fillStyle = colour;
      pen.fillRect(0, (+li.id.slice(1) - 1) * step, 12, Math.max(step, 1));
    }
  }
  map.addEventListener("click", (event) => {
    const last = rows.length ? +rows.at(-1).id.slice(1) : 1;
    const near = Math.ceil(event.offsetY / Math.min(map.height / last, 4));
    const to = [...row.keys()].find((number) => number >= near);
    if (to) go(to);
  });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Colours of Go, where the browser can paint text without more elements.
  const TOKEN = new RegExp(
    "(?<comment>//[^\\n]*|/\\*[^]*?\\*/)|(?<string>`[^`]*`|\"(?:\\\\.|[^\"\\\\\\n])*\"|'(?:\\\\.|[^'\\\\\\n])*')" +
    "|(?<word>\\b(?:break|case|chan|const|continue|default|defer|else|fallthrough|for|func|go|goto|if|import" +
    "|interface|map|package|range|return|select|struct|switch|type|var|nil|true|false|iota)\\b)" +
    "|(?<digit>\\b\\d[\\w.]*)", "g");
  const paint = () => {
    const nodes = [], starts = [];
    let text = "";
    for (const li of rows) {
      const walker = document.createTreeWalker(li, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (node.parentNode.localName === "a") continue;
        starts.push(text.length);
        nodes.push(node);
        text += node.data;
      }
      text += "\n";
    }
    let at = 0;
    for (const match of text.matchAll(TOKEN)) {
      const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
      const end = match.index + match[0].length;
      while (at + 1 < nodes.length && starts[at + 1] <= match.index) at++;
      for (let one = at; one < nodes.length && starts[one] < end; one++) {
        const range = new StaticRange({
          startContainer: nodes[one], startOffset: Math.max(match.index - starts[one], 0),
          endContainer: nodes[one], endOffset: Math.min(end - starts[one], nodes[one].length),
        });
        if (!CSS.highlights.has(kind)) CSS.highlights.set(kind, new Highlight());
        CSS.highlights.get(kind).add(range);
      }
    }
  };

  // What the URL says.
  const follow = () => {
    const hash = location.hash.slice(1).split("&");
    const key = hash.find((part) => part.startsWith("t="))?.slice(2);
    const place = hash.find((part) => /^L\d+$/.test(part));
    const set = hash.find((part) => members.has(part));
    const chosen = key === undefined ? test : tests.findIndex(([one]) => one === key);
    if (chosen !== test || key !== undefined) choose(chosen);
    if (place) go(+place.slice(1));
    else if (set) {
      const li = rows.find((one) => setOf(one) === set);
      go(+li.id.slice(1));
      show(line);
    }
  };
  addEventListener("hashchange", follow);
  for (const button of steps) button.disabled = !rows.some(isMark);
  follow();
  draw();
  if (CSS.highlights && rows.length < 20000) requestAnimationFrame(paint);
})();
