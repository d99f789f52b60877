// How full the conversation is: what it takes of the model's context after the last answer, and the files that wait to go with the
// next question. Says what to do before nothing fits any more. The context's size stands beside the model's name (services/ui/status.py).
"use strict";

(() => {
  const { talk, fill } = window.cloister;
  const NEARLY = 0.8; // of the context
  const FULL = 1 / 32; // of the context is left: too little for a question and its answer
  const KEPT = 1 / 8; // of the context is kept for the answer, where a file is let in
  let known = 0, told = "";

  const figure = (number) => new Intl.NumberFormat(document.documentElement.lang || "en").format(number);
  const context = () => Number(document.querySelector("#model [data-context]")?.dataset.context) || known;
  const used = () => talk.path().findLast((turn) => turn.tokens > 0)?.tokens ?? 0;
  const total = () => used() + window.cloister.waiting.tokens;
  const set = (element, name, value) => { if (element.getAttribute(name) !== value) element.setAttribute(name, value); };
  const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  function draw() {
    const box = document.querySelector("#gauge .gauge"), line = document.querySelector("#full p"), words = talk.words.files;
    if (!box || !line || !words) return;
    const size = context(), taken = total(), left = Math.max(0, size - taken);
    if (box.hidden !== !(size && taken)) box.hidden = !(size && taken);
    const level = !size || !taken ? "" : left < size * FULL ? "full" : taken >= size * NEARLY ? "nearly" : "";
    const text = fill(words.of, { used: figure(taken), context: figure(size) });
    for (const [name, value] of Object.entries({
      "aria-label": words.fullness, "aria-valuemax": String(size), "aria-valuenow": String(Math.min(taken, size)), "aria-valuetext": text,
      title: words.fullness, "data-level": level,
    })) set(box, name, value);
    const share = `${Math.min(100, (100 * taken) / (size || 1)).toFixed(1)}%`;
    if (box.querySelector("b").style.width !== share) box.querySelector("b").style.width = share;
    write(box.lastElementChild, text);
    if (talk.underWay) return; // a thought takes room that is free again when it has ended
    write(line, level && fill(words[level], { left: figure(left) }));
    set(line, "class", level);
    if (level && level !== told) window.cloister.announce(line.textContent);
    told = level;
  }

  window.cloister = { ...window.cloister, gauge: {
    draw,
    figure,
    // The model's context, as the server told it together with a file.
    learn(size) { known = size || known; },
    // How many tokens are free for a file, and how many are kept for the answer; null where nobody knows yet.
    room() {
      const size = context(), kept = Math.floor(size * KEPT);
      return size ? { free: Math.max(0, size - total() - kept), room: kept } : null;
    },
  } };
  talk.listen(draw);
  document.addEventListener("cloister:change", draw);
})();
