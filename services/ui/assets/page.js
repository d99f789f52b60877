// What Gradio leaves to be done in the browser: light and dark from the first paint on, the page's language, keys,
// questions shown as they were typed, and the names of buttons in the visitor's language. Fetches nothing, keeps no text.
"use strict";

(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("cloister-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("cloister-theme", theme); } catch { /* private mode */ } };

  // Light and dark: Gradio takes its own from <body class="dark">, and sets that class when it starts or the system changes.
  const wanted = () => remembered() ?? (dark.matches ? "dark" : "light");
  function paint() {
    const isDark = wanted() === "dark";
    document.documentElement.classList.toggle("dark", isDark);
    if (document.body && document.body.classList.contains("dark") !== isDark) document.body.classList.toggle("dark", isDark);
  }
  paint();
  dark.addEventListener("change", paint);
  document.addEventListener("DOMContentLoaded", () => {
    paint();
    new MutationObserver(paint).observe(document.body, { attributeFilter: ["class"] });
  });

  // A part of the page that did not come, because the network changed or the server went away in that moment, is not asked
  // for again by Gradio. The conversation is kept, so the page can start over; at most three times a minute.
  function startOver() {
    let times = [];
    try { times = JSON.parse(sessionStorage.getItem("cloister-starts")) ?? []; } catch { /* as if never */ }
    times = [...times.filter((time) => Date.now() - time < 60_000), Date.now()];
    try { sessionStorage.setItem("cloister-starts", JSON.stringify(times)); } catch { return; }
    if (times.length <= 3) setTimeout(() => location.reload(), 500 * times.length);
  }
  addEventListener("unhandledrejection", (event) => {
    if (/dynamically imported module|importing a module script|preload CSS/i.test(String(event.reason?.message ?? event.reason))) startOver();
  });
  addEventListener("error", (event) => {
    if (event.target?.tagName === "SCRIPT" || event.target?.tagName === "LINK") startOver();
  }, true);

  let words = {};
  function say(element, text) {
    if (text && element && element.getAttribute("aria-label") !== text) {
      element.setAttribute("aria-label", text);
      element.title = text;
    }
  }

  // Icons of Gradio's, told by what they draw, since their names follow the browser and not the page.
  function name(chat) {
    for (const panel of chat.querySelectorAll(".message-buttons")) {
      const buttons = [...panel.querySelectorAll(".icon-button-wrapper button")];
      const editing = panel.previousElementSibling?.querySelector("textarea");
      if (editing) {
        say(buttons[0], words.submit);
        say(buttons[1], words.cancel);
        say(editing, words.edit);
      } else {
        say(buttons[0], words.copy);
        say(buttons[1], words.edit);
      }
    }
    say(chat.querySelector(".scroll-down-button-container button"), words.to_the_end);
    const log = chat.querySelector("[role=log]");
    if (log && words.conversation) log.setAttribute("aria-label", words.conversation);
  }

  // Gradio renders a question as Markdown, so that `#include <vector>` would lose half of itself. Its own words stand in
  // the label that Gradio gives the message.
  function asTyped(chat) {
    for (const message of chat.querySelectorAll("[data-testid=user]")) {
      const text = message.getAttribute("aria-label").replace(/^user's message: /, "");
      let typed = message.querySelector(":scope > .typed");
      if (!typed) {
        typed = document.createElement("div");
        typed.className = "typed";
        message.append(typed);
      }
      if (typed.textContent !== text) typed.textContent = text;
    }
  }

  let wordless; // the first words come with the first answer of the server
  function refresh() {
    const title = document.querySelector("#title [data-words]");
    if (title && !title.dataset.language) wordless ??= setTimeout(startOver, 8000);
    if (title?.dataset.language) {
      clearTimeout(wordless);
      document.documentElement.lang = title.dataset.language;
      words = JSON.parse(title.dataset.words);
      say(document.getElementById("switch"), words.language);
      document.querySelector("#question textarea")?.setAttribute("aria-label", words.placeholder);
    }
    for (const toast of document.querySelectorAll(".toast-message-text")) {
      if (words.connection && /^Connection /.test(toast.textContent.trim())) toast.textContent = words.connection;
    }
    const chat = document.getElementById("chat");
    if (chat) {
      asTyped(chat);
      name(chat);
    }
  }
  let due = false;
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(() => {
      if (due) return;
      due = true;
      requestAnimationFrame(() => { due = false; refresh(); });
    }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["aria-label", "data-words"] });
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#theme")) {
      remember(wanted() === "dark" ? "light" : "dark");
      paint();
    }
  });

  // Nothing to send: Gradio would read the box a moment later, when something has been typed.
  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.matches?.("#question textarea") && !event.target.value.trim()) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, true);

  // Esc leaves an edit, or stops an answer. Enter sends an edit; an input method's own Enter is not ours.
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || event.target.closest?.("dialog")) return;
    const edit = event.target.closest?.(".edit-textarea");
    const buttons = edit?.closest(".message-row")?.nextElementSibling?.querySelectorAll("button");
    if (event.key === "Escape") {
      const way = buttons ? buttons[1] : document.getElementById("stop");
      way?.click();
    } else if (event.key === "Enter" && !event.shiftKey && buttons) {
      event.preventDefault();
      buttons[0].click();
    }
  }, true);
})();
