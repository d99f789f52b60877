// The files of the questions in the conversation, each a button that shows its text.
"use strict";

(() => {
  const { talk, waiting } = window.cloister;

  const dialog = document.createElement("dialog");
  dialog.id = "file";
  dialog.innerHTML = '<header><h2 id="file-name"></h2><button type="button" class="close"></button></header><pre tabindex="0"></pre>';
  dialog.setAttribute("aria-labelledby", "file-name");
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest(".close")) dialog.close(); });
  document.addEventListener("DOMContentLoaded", () => document.body.append(dialog));

  function look(file) {
    dialog.querySelector("h2").textContent = file.name;
    dialog.querySelector("pre").textContent = file.text;
    window.cloister.say(dialog.querySelector(".close"), talk.words.files.close);
    dialog.showModal();
    dialog.querySelector("pre").scrollTop = 0;
  }
  dialog.addEventListener("close", () => { dialog.querySelector("pre").textContent = ""; });

  function refresh() {
    if (!talk.words.files) return;
    const path = talk.path();
    document.querySelectorAll("#chat [data-testid=user]").forEach((message, index) => {
      const files = path[index]?.files ?? [];
      const signature = files.length ? JSON.stringify([path[index].id, files.map(({ name, tokens }) => [name, tokens]), talk.words.files.look]) : "";
      let box = message.querySelector(":scope > .attached");
      if ((box?.dataset.signature ?? "") === signature) return;
      if (!files.length) return void box?.remove(); // Gradio uses its elements again for other messages
      if (!box) {
        box = document.createElement("div");
        box.className = "attached";
        message.prepend(box);
      }
      box.dataset.signature = signature;
      box.replaceChildren(...files.map(waiting.chip));
    });
  }

  window.cloister = { ...window.cloister, look };
  talk.listen(refresh);
  document.addEventListener("cloister:change", refresh);
})();
