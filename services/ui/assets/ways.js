// What stands under a question or an answer beside Gradio's own buttons: the way to its other versions, and to answer it again.
"use strict";

(() => {
  const { talk } = window.cloister;
  let focus = null; // the button that was pressed, by its place in the conversation: the page is drawn anew after it

  function button(kind, name, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.dataset.way = kind;
    made.title = name;
    made.setAttribute("aria-label", name);
    if (act) made.addEventListener("click", act);
    made.disabled = !act || talk.underWay;
    return made;
  }

  function worded(kind, name, act) {
    const made = button(kind, name, act);
    made.textContent = name;
    return made;
  }

  function versions({ turns, shown }, place) {
    const group = document.createElement("span");
    group.className = "versions";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", talk.words.version.replace("{shown}", shown + 1).replace("{all}", turns.length));
    const step = (kind, name, to) => button(kind, name, to && (() => { focus = { place, kind }; talk.show(to); }));
    const count = document.createElement("span");
    count.textContent = `${shown + 1} / ${turns.length}`;
    count.setAttribute("aria-hidden", "true");
    group.append(step("earlier", talk.words.earlier, turns[shown - 1]), count, step("later", talk.words.later, turns[shown + 1]));
    return group;
  }

  // Under which panel what is to be seen: the question's, and the last one of what came of it.
  function panels(chat) {
    const found = [];
    for (const row of chat.querySelectorAll(".message-row")) {
      const panel = row.nextElementSibling?.matches(".message-buttons") ? row.nextElementSibling : null;
      if (row.classList.contains("user-row")) found.push({ question: panel, answer: null });
      else if (found.length) found.at(-1).answer = panel ?? found.at(-1).answer;
    }
    return found;
  }

  function draw(panel, place, signature, parts) {
    let box = panel.querySelector(":scope > .ways");
    panel.classList.toggle("with-ways", Boolean(parts));
    if (!parts) return void box?.remove();
    if (box?.dataset.signature === signature) return;
    if (!box) {
      box = document.createElement("div");
      box.className = "ways";
      panel.append(box);
    }
    box.dataset.signature = signature;
    box.replaceChildren(...parts());
    if (focus?.place === place) {
      const wanted = box.querySelector(`[data-way=${focus.kind}]:enabled`) ?? box.querySelector(".versions button:enabled");
      wanted?.focus();
      if (wanted) focus = null;
    }
  }

  function refresh() {
    const chat = document.getElementById("chat");
    if (!chat || !talk.words.version) return;
    const path = talk.path(), used = new Set(), busy = talk.underWay;
    panels(chat).forEach(({ question, answer }, index) => {
      const turn = path[index];
      if (!turn) return;
      const ways = talk.ways[turn.id] ?? {};
      for (const [kind, panel] of Object.entries({ question, answer })) {
        if (!panel) continue;
        used.add(panel);
        const place = kind + index, version = ways[kind];
        // Under the last one Gradio offers to try again where something went wrong.
        const again = kind === "answer" && !(index === path.length - 1 && (busy || ["failed", "lost"].includes(turn.stage)));
        const proceed = again && index === path.length - 1 && !busy && ["cut", "stopped"].includes(turn.stage) && Boolean(turn.thought || turn.answer);
        const signature = JSON.stringify([turn.id, version ?? 0, again, proceed, busy, talk.words.version]);
        const parts = (again || version) && (() => [
          ...(proceed ? [worded("proceed", talk.words.proceed, () => talk.proceed(turn.id))] : []),
          ...(again ? [button("again", talk.words.again, () => talk.again(turn.id))] : []),
          ...(version ? [versions(version, place)] : []),
        ]);
        draw(panel, place, signature, parts);
      }
    });
    // Gradio uses its elements again for other messages.
    for (const panel of chat.querySelectorAll(".with-ways")) {
      if (used.has(panel)) continue;
      draw(panel, "", "", null);
    }
  }

  let due = false;
  const soon = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; refresh(); });
  };
  talk.listen(soon);
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  });
})();
