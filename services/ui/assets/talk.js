// The conversation that this tab shows: a tree of turns, of which the server is told with each event and from which only what
// changed comes back (services/ui/kept.py). Every word that was shown is kept at once, so that a reload loses none.
"use strict";

(() => {

  const WHOLE = cloisterKey("conversation"), GROWING = cloisterKey("growing");
  const UNDER_WAY = ["waiting", "queued", "reading", "thinking", "answering"];

  let talk = blank(), ways = {}, words = {}, component = null, told = () => {};

  function blank() {
    // randomUUID is for secure origins only, which a machine in one's own network is not.
    return { id: [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join(""), head: "", turns: [] };
  }
  const read = (name) => { try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; } };
  function write(name, value) {
    try {
      if (value) sessionStorage.setItem(name, JSON.stringify(value));
      else sessionStorage.removeItem(name);
    } catch { /* storage is off or full: then only this page holds it */ }
  }

  // Earlier versions kept a list of turns, each following the one before.
  function chained(list) {
    const turns = list.map((turn, place) => ({ ...turn, id: "t" + place, parent: place ? "t" + (place - 1) : "" }));
    return { ...blank(), head: turns.at(-1)?.id ?? "", turns };
  }

  // The tree with one turn more, or in another state. Turns are replaced, never changed: Gradio may hold the old ones.
  function grown(tree, turn, head) {
    const place = tree.turns.findLastIndex((other) => other.id === turn.id);
    const turns = place < 0 ? [...tree.turns, turn] : tree.turns.with(place, turn);
    return { ...tree, head, turns };
  }

  const last = () => talk.turns.findLast((turn) => turn.id === talk.head);
  const underWay = () => UNDER_WAY.includes(last()?.stage);
  const hand = () => { if (component) component.props.value = talk; };

  function path() {
    const known = new Map(talk.turns.map((turn) => [turn.id, turn])), found = [];
    for (let at = known.get(talk.head); at; at = known.get(at.parent)) found.push(at);
    return found.reverse();
  }

  window.cloister = { ...window.cloister, talk: {
    // Called by the component that hands the conversation to the server.
    join(props, trigger) {
      component = { props, trigger };
      const kept = read(WHOLE), growing = read(GROWING);
      if (Array.isArray(kept)) talk = chained(kept);
      else if (kept?.turns) talk = kept;
      if (growing?.id === talk.id) talk = grown(talk, growing.turn, growing.turn.id);
      hand();
      if (talk.turns.length) trigger("submit");
    },

    hear(news) {
      if (news?.id !== talk.id) return;
      const { turn } = news, known = !turn || talk.turns.some((other) => other.id === turn.id);
      talk = turn ? grown(talk, turn, news.head) : { ...talk, head: news.head };
      ways = news.ways;
      if (known && underWay()) {
        write(GROWING, { id: talk.id, turn });
      } else {
        write(WHOLE, talk);
        write(GROWING, null);
        hand();
      }
      told();
    },

    // The server says that nothing is under way any more. If the end of the answer never arrived, it was lost.
    settle() {
      const { head } = talk;
      if (underWay()) setTimeout(() => { if (talk.head === head && underWay()) { hand(); component.trigger("submit"); } }, 500);
    },

    fresh() {
      talk = blank();
      ways = {};
      write(WHOLE, null);
      write(GROWING, null);
      hand();
      component.trigger("submit");
    },

    again: (turn) => component.trigger("again", { turn }),
    show: (turn) => component.trigger("show", { turn }),
    speak(spoken) { words = spoken ?? {}; told(); },
    listen(callback) { told = callback; },
    get words() { return words; },
    get ways() { return ways; },
    get underWay() { return underWay(); },
    path,
  } };
})();
