// Files that wait to go with the next question: dropped anywhere on the page, pasted, or chosen with the paper-clip. The page's server
// tells the text of each and what it takes of the context (services/ui/desk.py), and keeps none of it; this tab does.
"use strict";

(() => {
  const { talk, fill, gauge } = window.cloister;
  const KEPT = cloisterKey("files");
  const words = () => talk.words.files;

  // What is in the list: `file` once it is read, `why` where it was refused, neither while it is being read.
  let items = recall(), component = null, line = Promise.resolve(), hurried = false, drawn = "", head = "";

  function recall() {
    try { return JSON.parse(sessionStorage.getItem(KEPT))?.map((file) => ({ name: file.name, file })) ?? []; } catch { return []; }
  }
  function keep(files) {
    try {
      if (files.length) sessionStorage.setItem(KEPT, JSON.stringify(files));
      else sessionStorage.removeItem(KEPT);
    } catch { /* storage is off or full: then a reload forgets them */ }
  }
  const read = () => items.filter(({ file }) => file).map(({ file }) => file);
  const busy = () => items.some(({ file, why }) => !file && !why);

  function changed() {
    const files = read();
    if (component) component.props.value = files;
    keep(files);
    hurried &&= busy();
    draw();
    gauge.draw();
  }

  // Taking files in, one after the other

  function take(files) {
    items = items.filter(({ why }) => !why);
    for (const file of files) {
      const item = { name: file.name };
      items.push(item);
      line = line.then(() => hand(item, file));
    }
    changed();
  }

  async function hand(item, file) {
    if (!items.includes(item)) return;
    const told = await ask(file);
    if (!items.includes(item)) return; // removed meanwhile
    if (told.error) item.why = told.error;
    else {
      gauge.learn(told.context);
      const room = gauge.room();
      const { name, text, tokens } = told;
      item.name = name;
      if (room && tokens > room.free) item.why = { reason: "no_room", needed: tokens, ...room };
      else item.file = { name, text, tokens };
    }
    changed();
    window.cloister.announce(item.why ? refusal(item) : fill(words().added, { name: item.name, count: gauge.figure(item.file.tokens) }));
  }

  async function ask(file) {
    const most = words()?.largest ?? Infinity, mb = (size) => Math.ceil(size / 1e5) / 10;
    if (file.size > most) return { error: { reason: "too_large", found: mb(file.size), most: mb(most) } };
    let body;
    try { body = await file.arrayBuffer(); } catch { return { error: { reason: "unopened" } }; }
    try {
      const name = encodeURIComponent(file.name.replace(/\p{Surrogate}/gu, "_"));
      const answer = await fetch("./read", { method: "POST", body, headers: { "Content-Type": "application/octet-stream", "X-File-Name": name } });
      if (answer.ok) return await answer.json();
    } catch { /* the server is away */ }
    return { error: { reason: "unreached" } };
  }

  function refusal({ name, why }) {
    const values = Object.fromEntries(Object.entries(why).map(([key, value]) => [key, typeof value === "number" ? gauge.figure(value) : value]));
    const sentence = why.reason === "no_room" ? words().no_room : words().reasons[why.reason] ?? words().reasons.unreached;
    if (why.reason === "binary") values.found = words().kinds[why.found] ?? words().kinds.other;
    return fill(words().refused, { name, why: fill(sentence, values) });
  }

  function remove(item) {
    const place = items.indexOf(item);
    items = items.filter((other) => other !== item);
    changed();
    const ways = document.querySelectorAll("#files .remove");
    (ways[Math.min(place, ways.length - 1)] ?? document.querySelector("#question textarea"))?.focus();
    window.cloister.announce(fill(words().removed, { name: item.name }));
  }

  // What is seen of them

  function button(kind, name, act, ...children) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = kind;
    made.title = name;
    made.setAttribute("aria-label", name);
    made.addEventListener("click", act);
    made.append(...children);
    return made;
  }
  function worded(tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }
  // A file's button, which shows its text; also for those in the conversation.
  function chip(file) {
    const tokens = fill(words().tokens, { count: gauge.figure(file.tokens) });
    const name = `${fill(words().look, { name: file.name })} (${tokens})`;
    return button("look", name, () => window.cloister.look(file), worded("span", file.name), ...(file.tokens ? [worded("small", tokens)] : []));
  }

  function row(item) {
    const made = document.createElement("li");
    if (item.file) made.append(chip(item.file));
    else made.append(worded("span", item.why ? refusal(item) : item.name));
    if (!item.file && !item.why) made.append(worded("small", words().reading));
    made.className = item.file ? "" : item.why ? "refused" : "reading";
    made.append(button("remove", fill(words().remove, { name: item.name }), () => remove(item)));
    return made;
  }

  function draw() {
    const list = document.querySelector("#files ul");
    if (!list || !words()) return;
    window.cloister.say(document.querySelector("#clip button"), words().attach);
    const signature = JSON.stringify([items.map(({ name, file, why }) => [name, file?.tokens, why]), words().attach, hurried]);
    if (signature === drawn && list.childElementCount >= items.length) return;
    drawn = signature;
    list.setAttribute("aria-label", words().waiting);
    list.replaceChildren(...items.map(row), ...(hurried ? [worded("li", words().patience)] : []));
    list.scrollTop = list.scrollHeight; // the newest is the last
    drop.textContent = words().drop;
  }

  // The ways in

  const chosen = document.createElement("input");
  Object.assign(chosen, { type: "file", multiple: true, hidden: true, id: "chosen-files" });
  chosen.addEventListener("change", () => { take([...chosen.files]); chosen.value = ""; });
  document.addEventListener("click", (event) => { if (event.target.closest?.("#clip button")) chosen.click(); });

  const drop = document.createElement("div");
  drop.id = "drop";
  let leaving;
  const bringsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    document.body.classList.add("dropping");
    clearTimeout(leaving); // it is told again and again while something is held over the page
    leaving = setTimeout(() => document.body.classList.remove("dropping"), 300);
  });
  document.addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("dropping");
    take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const { files = [], types = [] } = event.clipboardData ?? {};
    if (!files.length || types.includes("text/plain")) return; // what is copied from a document brings a picture of itself
    event.preventDefault();
    take([...files]);
  });
  document.addEventListener("DOMContentLoaded", () => document.body.append(chosen, drop));

  // A question waits for its files.
  function hold(event) {
    if (component) component.props.value = read(); // Gradio may have set its own when it began
    if (!busy()) return;
    event.preventDefault();
    event.stopPropagation();
    hurried = true;
    draw();
    window.cloister.announce(words().patience);
  }
  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.matches?.("#question textarea")) hold(event);
  }, true);
  document.addEventListener("click", (event) => { if (event.target.closest?.("#send")) hold(event); }, true);

  // The question is under way: what went with it no longer waits.
  function sent() {
    const turn = talk.path().at(-1);
    if (!turn || turn.id === head) return;
    head = turn.id;
    const gone = ({ file, why }) => why || turn.files?.some(({ name, text }) => file?.name === name && file.text === text);
    if (!talk.underWay || !items.some(gone)) return;
    items = items.filter((item) => !gone(item));
    changed();
  }

  window.cloister = { ...window.cloister, waiting: {
    // Called by the component that hands them to the server.
    join(props) { component = { props }; setTimeout(changed); },
    get files() { return read(); },
    get tokens() { return items.reduce((sum, { file }) => sum + (file?.tokens ?? 0), 0); },
    chip,
  } };
  talk.listen(() => { sent(); draw(); });
  document.addEventListener("cloister:change", draw);
})();
