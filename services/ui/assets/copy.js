// Copying: what is copied is what the model wrote, without the invisible characters that services/ui/markdown.py puts between
// its own, and the button that was pressed says that it is done.
"use strict";

(() => {
  const HIDDEN = /[\u2062-\u2064]/g;
  const DONE = 2000; // milliseconds that a button says so
  const own = (text) => text.replace(HIDDEN, "");

  if (navigator.clipboard?.writeText) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(own(text));
  }

  // A selection, or the way of pages that have no clipboard because they came without TLS from another machine.
  document.addEventListener("copy", (event) => {
    const box = event.target;
    const selection = getSelection();
    const text = box.selectionEnd > box.selectionStart ? box.value.slice(box.selectionStart, box.selectionEnd) : String(selection);
    if (own(text) === text) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", own(text));
    if (box.value !== undefined || !selection.rangeCount) return;
    const copied = document.createElement("div");
    copied.append(selection.getRangeAt(0).cloneContents());
    event.clipboardData.setData("text/html", own(copied.innerHTML));
  });

  async function put(text) {
    if (navigator.clipboard?.writeText) return navigator.clipboard.writeText(text);
    const box = document.createElement("textarea");
    box.value = text;
    box.style.cssText = "position: fixed; opacity: 0";
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }

  function done(button) {
    const { say, announce, words } = cloister;
    clearTimeout(button.copied);
    button.copied = setTimeout(() => { delete button.copied; say(button, button.before); button.classList.remove("copied"); }, DONE);
    button.before ??= button.getAttribute("aria-label");
    button.classList.add("copied");
    say(button, words.copied);
    announce(words.copied);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#chat button");
    if (button?.matches(".copy_code_button")) {
      // Gradio's own way would take the first line's indentation away.
      event.stopImmediatePropagation();
      put(button.parentElement.querySelector("code").textContent.replace(/\n$/, "")).then(() => done(button));
    } else if (button && button.getAttribute("aria-label") === cloister.words.copy) {
      done(button);
    }
  }, true);
})();
