// The conversation that this tab shows: a tree of turns, of which the server is told with each event and from which only what
// changed comes back (services/ui/kept.py). It is kept in this browser's library (library.js); what an answer has come to so far
// is also written into the tab's own storage, at once, so that a reload in the midst of it loses nothing that was shown.
"use strict";

(() => {
  const OPEN = cloisterKey("open"), GROWING = cloisterKey("growing"), EARLIER = cloisterKey("conversation");
  const UNDER_WAY = ["waiting", "queued", "reading", "thinking", "answering"];
  const PACE = 2000; // milliseconds between two times that a growing answer is written to the library
  const { library } = window.cloister;

  let talk = blank(), ways = {}, words = {}, component = null, told = () => {}, written = 0;

  function blank() {
    // randomUUID is for secure origins only, which a machine in one's own network is not.
    const id = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { id, head: "", turns: [] };
  }
  const read = (name) => { try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; } };
  function write(name, value) {
    try {
      if (value) sessionStorage.setItem(name, JSON.stringify(value));
      else sessionStorage.removeItem(name);
    } catch { /* storage is off or full: then only this page holds it, and the library says so */ }
  }

  // Earlier versions kept a list of turns in the tab, each following the one before.
  function chained(list) {
    const turns = list.map((turn, place) => ({ ...turn, id: "t" + place, parent: place ? "t" + (place - 1) : "" }));
    return { ...blank(), head: turns.at(-1).id, turns };
  }

  // The tree with one turn more, or in another state. Turns are replaced, never changed: Gradio may hold the old ones.
  function grown(tree, turn, head) {
    const place = tree.turns.findLastIndex((other) => other.id === turn.id);
    const turns = place < 0 ? [...tree.turns, turn] : tree.turns.map((other, index) => (index === place ? turn : other));
    return { ...tree, head, turns };
  }
  const length = (turn) => (turn ? turn.thought.length + turn.answer.length : -1);

  const last = () => talk.turns.findLast((turn) => turn.id === talk.head);
  const underWay = () => UNDER_WAY.includes(last()?.stage);
  const hand = () => { component.props.value = talk; };

  function path() {
    const known = new Map(talk.turns.map((turn) => [turn.id, turn])), found = [];
    for (let at = known.get(talk.head); at; at = known.get(at.parent)) found.push(at);
    return found.reverse();
  }

  // Save what changed; the library tells of its own troubles.
  const save = (turns, quiet) => library.save(talk, turns, quiet).then(() => true, () => false);

  // Another conversation in this one's place. An answer that is on its way stays as it is.
  function turnTo(other) {
    if (underWay()) {
      talk = grown(talk, { ...last(), stage: "stopped" }, talk.head);
      save([last()]);
    }
    talk = other;
    ways = {};
    write(OPEN, talk.id);
    write(GROWING, null);
    hand();
    component.trigger("submit");
    told();
  }

  // Gradio tells the last state of an answer once more when it has ended. Where another conversation has been opened meanwhile, that
  // one has to be shown again.
  let due;
  function shownAnew() {
    clearTimeout(due);
    due = setTimeout(() => component.trigger("submit"), 100);
  }

  // What this tab had open, and those of its turns that the library does not have like this.
  async function recall() {
    const earlier = read(EARLIER), growing = read(GROWING), id = read(OPEN);
    write(EARLIER, null);
    if (Array.isArray(earlier) && earlier.length) {
      const found = chained(earlier);
      return { found, changed: found.turns };
    }
    const found = id && ((await library.load(id).catch(() => null)) ?? { ...blank(), id });
    const old = found && growing?.id === id && found.turns.find((turn) => turn.id === growing.turn.id);
    if (!found || growing?.id !== id || length(growing.turn) <= length(old)) return { found, changed: [] };
    return { found: grown(found, growing.turn, growing.turn.id), changed: [growing.turn] };
  }

  window.cloister = { ...window.cloister, talk: {
    // Called by the component that hands the conversation to the server.
    async join(props, trigger) {
      component = { props, trigger };
      const mine = talk;
      hand();
      const { found, changed } = await recall();
      if (talk !== mine) return; // a question was quicker
      if (found?.turns.length) {
        talk = found;
        if (changed.length) save(changed, true);
        hand();
        trigger("submit");
      }
      write(OPEN, talk.id);
      told();
    },

    hear(news) {
      if (news?.id !== talk.id) return void (news?.id && shownAnew());
      const { turn } = news, old = turn && talk.turns.find((other) => other.id === turn.id);
      const same = !turn || JSON.stringify(old) === JSON.stringify(turn);
      talk = turn ? grown(talk, turn, news.head) : { ...talk, head: news.head };
      ways = news.ways;
      if (!same) write(GROWING, { id: talk.id, turn });
      if (old && underWay()) {
        if (Date.now() - written > PACE) {
          written = Date.now();
          save([turn], true);
        }
      } else {
        hand();
        if (same) library.head(talk).catch(() => {});
        else save([turn]).then((saved) => { if (saved && read(GROWING)?.turn.id === turn.id && !underWay()) write(GROWING, null); });
      }
      told();
    },

    // The server says that nothing is under way any more. If the end of the answer never arrived, it was lost.
    settle() {
      const { head } = talk;
      if (underWay()) setTimeout(() => { if (talk.head === head && underWay()) { hand(); component.trigger("submit"); } }, 500);
    },

    fresh: () => turnTo(blank()),
    async open(id) {
      if (id === talk.id) return;
      const found = await library.load(id).catch(() => null);
      if (found) turnTo(found);
    },
    again: (turn) => component.trigger("again", { turn }),
    proceed: (turn) => component.trigger("proceed", { turn }),
    show: (turn) => component.trigger("show", { turn }),
    speak(spoken) { words = spoken ?? {}; told(); },
    listen(callback) { const before = told; told = () => { before(); callback(); }; },
    get id() { return talk.id; },
    get whole() { return talk; },
    get words() { return words; },
    get ways() { return ways; },
    get underWay() { return underWay(); },
    path,
  } };
})();
