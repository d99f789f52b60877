// The keyboard, and where the focus goes when what had it is gone. Knows the page's buttons by their ids and names.
"use strict";

(() => {
  const question = () => document.querySelector("#question textarea");
  const visible = (element) => element?.isConnected && element.checkVisibility();
  const composing = (event) => event.isComposing || event.keyCode === 229; // an input method's own keys are not ours

  // Nothing to send: Gradio would read the box a moment later, when something has been typed. Some input methods end with an
  // Enter that looks like one once they are done.
  let composed = false;
  document.addEventListener("keypress", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.target !== question()) return;
    if (composed || !(event.target.value.trim() || cloister.waiting.files.length)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, true);

  // Esc leaves an edit, or stops an answer, unless something is open that it closes. Enter sends an edit. The arrow up in an
  // empty box goes to the last question.
  document.addEventListener("keydown", (event) => {
    composed = composing(event);
    if (composed || event.defaultPrevented) return;
    const edit = event.target.closest?.(".edit-textarea");
    const buttons = edit?.closest(".message-row")?.nextElementSibling?.querySelectorAll("button");
    if (event.key === "Escape") {
      if (!edit && document.querySelector("dialog[open]:not(#library), #library:modal, [role=dialog]:popover-open")) return;
      const way = buttons ? buttons[1] : document.getElementById("stop");
      if (visible(way)) way.click();
    } else if (event.key === "Enter" && !event.shiftKey && buttons) {
      event.preventDefault();
      buttons[0].click();
    } else if (event.key === "ArrowUp" && event.target === question() && !event.target.value && !visible(document.getElementById("stop"))) {
      const ways = [...document.querySelectorAll("#chat button")].filter((button) => button.getAttribute("aria-label") === cloister.words.edit);
      if (!ways.length) return;
      event.preventDefault();
      ways.at(-1).click();
    }
  }, true);

  // What had the focus is gone: it goes to the question, or to the box that has come in its place. On a phone the keyboard
  // would come up by itself, so only where somebody had been typing.
  let last = null;
  let touched = false;
  document.addEventListener("focusin", (event) => { last = event.target; });
  document.addEventListener("pointerdown", (event) => { touched = event.pointerType === "touch"; }, true);
  document.addEventListener("keydown", () => { touched = false; }, true);
  document.addEventListener("cloister:change", () => {
    const edit = document.querySelector(".edit-textarea");
    if (edit && edit !== last && !edit.entered) {
      edit.entered = true;
      edit.focus();
      edit.setSelectionRange(edit.value.length, edit.value.length);
    } else if (last && !visible(last) && [document.body, last, null].includes(document.activeElement)) {
      const typing = last.matches("textarea, input");
      last = null;
      if (!touched || typing) question()?.focus({ preventScroll: true });
    }
  });

  // The first stop of the keyboard leads past the header and the conversation.
  const skip = document.createElement("a");
  skip.className = "skip";
  skip.href = "#question";
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    question()?.focus();
  });
  document.addEventListener("DOMContentLoaded", () => document.body.prepend(skip));
  document.addEventListener("cloister:change", () => {
    if (cloister.words.skip && skip.textContent !== cloister.words.skip) skip.textContent = cloister.words.skip;
  });
})();
