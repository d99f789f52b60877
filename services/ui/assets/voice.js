// What a screen reader is told of an answer: that it waits, reads or thinks, and how it ended; never word by word.
"use strict";

(() => {
  const visible = (element) => element?.isConnected && element.checkVisibility();
  let busy = false;
  let told = "";

  function tell(text) {
    if (text && text !== told) cloister.announce(text);
    told = text;
  }

  document.addEventListener("cloister:change", () => {
    const chat = document.getElementById("chat");
    const now = visible(document.getElementById("stop"));
    if (now) {
      const fold = [...chat?.querySelectorAll(".thought-group") ?? []].at(-1);
      // Without the clock and the percents, which change all the time.
      if (fold?.querySelector(".loading-spinner")) tell(fold.querySelector(".title").innerText.trim().split(/ · |[:：]/)[0]);
    } else if (busy && visible(chat)) {
      const note = [...chat.querySelectorAll(".bot-row")].at(-1)?.querySelector(".note");
      tell(note ? note.innerText : cloister.words.ready);
      told = "";
    }
    busy = now;
  });
})();
