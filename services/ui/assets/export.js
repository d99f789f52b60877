// Conversations as files and back: Markdown for people, JSON that can be imported again. Files are made and read in the browser.
"use strict";

(() => {
  const FORMAT = "cloister-conversations", VERSION = 1;
  const MOST_MB = 64, MOST_TURNS = 5000, LONGEST = 2_000_000;
  const ID = /^[0-9A-Za-z_-]{1,64}$/;
  const { library, talk } = window.cloister;

  function download(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name.replace(/[\\/:*?"<>|\u0000-\u001f]+/g, " ").trim().slice(0, 80);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  const day = () => new Date().toISOString().slice(0, 10);
  const title = (whole) => whole.record?.name || whole.record?.title || talk.words.untitled;
  const quoted = (text) => text.trim().split("\n").map((line) => ("> " + line).trimEnd()).join("\n");
  function fenced(text) {
    const fence = "`".repeat(Math.max(3, 1 + Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length))));
    return `${fence}\n${text.trimEnd()}\n${fence}`;
  }

  // What is shown, oldest first; the thought is a quotation.
  function markdown(whole, path) {
    const { words } = talk, parts = ["# " + title(whole)];
    for (const turn of path) {
      parts.push("## " + words.question);
      for (const file of turn.files ?? []) parts.push(`**${file.name}**`, fenced(file.text));
      if (turn.question) parts.push(turn.question);
      if (turn.thought) parts.push("### " + words.thought, quoted(turn.thought));
      if (turn.answer) parts.push("### " + words.answer, turn.answer);
    }
    return parts.join("\n\n") + "\n";
  }

  function json(wholes) {
    const conversations = wholes.map(({ id, head, turns, record = {} }) => {
      const { title = "", name = "", begun = Date.now(), used = Date.now() } = record;
      return { id, title, name, begun, used, head, turns };
    });
    return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1) + "\n";
  }

  // Why a file can't be taken in: `found` goes into the sentence of that name.
  class Refusal extends Error {
    constructor(sentence, values) { super(sentence); Object.assign(this, { sentence, values }); }
  }

  const kind = (value) => (Array.isArray(value) ? "list" : value === null ? "null" : typeof value);
  const brief = (value) => (typeof value === "object" ? kind(value) : String(value)).slice(0, 40);

  // A conversation of the file, with what belongs into one and nothing else.
  function checked(item, number, shape) {
    const damaged = (found) => { throw new Refusal("damaged", { number, found }); };
    if (kind(item) !== "object" || !ID.test(item.id)) damaged("id");
    if (!Array.isArray(item.turns) || !item.turns.length || item.turns.length > MOST_TURNS) damaged("turns");
    const known = new Set([""]), turns = [];
    for (const raw of item.turns) {
      const turn = {};
      if (kind(raw) !== "object") damaged("turns");
      for (const [field, value] of Object.entries(shape.turn)) {
        turn[field] = raw[field] ?? value;
        if (kind(turn[field]) !== kind(value)) damaged(field);
        if (kind(value) === "string" && turn[field].length > LONGEST) damaged(field);
        if (kind(value) === "number" && !(Math.abs(turn[field]) < 1e12)) damaged(field);
      }
      if (!turn.files.every((file) => typeof file?.name === "string" && typeof file.text === "string" && Number.isInteger(file.tokens) && file.text.length <= LONGEST)) damaged("files");
      if (!shape.stages.includes(turn.stage)) damaged("stage");
      if (!ID.test(turn.id) || known.has(turn.id)) damaged("id");
      if (!known.has(turn.parent)) damaged("parent");
      known.add(turn.id);
      turns.push(turn);
    }
    const record = {};
    for (const field of ["title", "name"]) record[field] = typeof item[field] === "string" ? item[field].slice(0, 120) : "";
    for (const field of ["begun", "used"]) record[field] = Number.isFinite(item[field]) ? Math.min(Date.now(), Math.max(0, item[field])) : Date.now();
    if (!record.title) delete record.title;
    return { id: item.id, head: known.has(item.head) && item.head ? item.head : turns.at(-1).id, turns, record };
  }

  function parse(text, shape) {
    let data;
    try { data = JSON.parse(text); } catch (error) { throw new Refusal("not_json", { found: String(error.message).slice(0, 80) }); }
    if (data?.format !== FORMAT) throw new Refusal("not_ours", { found: kind(data) === "object" ? Object.keys(data).slice(0, 5).join(", ").slice(0, 80) || "{}" : brief(data) });
    if (data.version !== VERSION) throw new Refusal("newer", { found: brief(data.version), most: VERSION });
    if (!Array.isArray(data.conversations)) throw new Refusal("damaged", { number: 1, found: "conversations" });
    return data.conversations.map((item, index) => checked(item, index + 1, shape));
  }

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

  const joined = (one, other) => one + (one.endsWith("。") ? "" : " ") + other;

  window.cloister = { ...window.cloister, fill, files: {
    async markdown() {
      const whole = await current();
      download(`${title(whole)}.md`, "text/markdown", markdown(whole, talk.path()));
    },
    async json() {
      const whole = await current();
      download(`${title(whole)}.json`, "application/json", json([whole]));
    },
    async all() {
      const wholes = await library.all().catch(() => [talk.whole]);
      download(`Cloister ${talk.words.file} ${day()}.json`, "application/json", json(wholes.filter((whole) => whole.turns.length)));
    },

    // Takes a file in, all of it or nothing; resolves to the sentence that says what came of it.
    async take(file) {
      const { words } = talk;
      try {
        if (file.size > MOST_MB * 1e6) throw new Refusal("too_large", { found: Math.ceil(file.size / 1e6), most: MOST_MB });
        const found = parse(await file.text(), words.shape);
        await library.add(found);
        return fill(words.taken_in, { count: found.length });
      } catch (error) {
        const why = error instanceof Refusal ? joined(fill(words[error.sentence], error.values), words.choose) : fill(words.trouble, { why: error?.name ?? "" });
        return joined(fill(words.refused, { file: file.name }), why);
      }
    },
  } };

  async function current() {
    const kept = await library.load(talk.id).catch(() => null);
    const { whole } = talk;
    return { ...whole, record: kept?.record ?? { title: whole.turns[0]?.question.trim().split("\n")[0].slice(0, 120) } };
  }
})();
