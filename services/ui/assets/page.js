// What Gradio leaves to be done in the browser: light and dark from the first paint on, the page's language, questions shown
// as they were typed, and the names of buttons in the visitor's language. Fetches nothing, keeps no text.
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

  // For the other scripts: the words of the visitor's language, and two ways to say them.
  let words = {};
  function say(element, text) {
    if (label(element, text)) element.title = text;
  }
  // What is there already is not written again: each writing is a change of the page, on which everything here looks again.
  function label(element, text) {
    if (!text || !element || element.getAttribute("aria-label") === text) return false;
    element.setAttribute("aria-label", text);
    return true;
  }
  const herald = document.createElement("div");
  herald.setAttribute("role", "status");
  herald.className = "unseen";
  document.addEventListener("DOMContentLoaded", () => document.body.append(herald));
  function announce(text) {
    herald.textContent = herald.textContent === text ? `${text}\u00a0` : text; // what does not change is not read again
  }
  window.cloister = { ...window.cloister, words, say, announce };

  // Boxes whose width has been looked at. That costs a layout of the page, so only those of the last answer are looked at again.
  let measured = new WeakSet();
  addEventListener("resize", () => { measured = new WeakSet(); due ||= look(); });

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
        say(buttons[0], buttons[0]?.copied ? words.copied : words.copy);
        say(buttons[1], words.edit);
      }
    }
    for (const button of chat.querySelectorAll(".copy_code_button")) if (!button.copied) say(button, words.copy_code);
    // What scrolls sideways is scrolled by the keyboard too.
    const growing = [...chat.querySelectorAll(".bot-row")].at(-1);
    for (const box of chat.querySelectorAll(":is(.katex-display, .prose table, .prose pre):not([tabindex])")) {
      if (measured.has(box) && !growing?.contains(box)) continue;
      measured.add(box);
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
    say(chat.querySelector(".scroll-down-button-container button"), words.to_the_end);
    const log = chat.querySelector("[role=log]");
    label(log, words.conversation);
    // Else every word of a growing answer would be read out: assets/voice.js tells how it goes.
    if (log && log.getAttribute("aria-live") !== "off") log.setAttribute("aria-live", "off");
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

  let spoken; // the words as they came
  let wordless; // the first words come with the first answer of the server
  function refresh() {
    const title = document.querySelector("#title [data-words]");
    if (title && !title.dataset.language) wordless ??= setTimeout(startOver, 8000);
    if (title?.dataset.language) {
      clearTimeout(wordless);
      if (document.documentElement.lang !== title.dataset.language) document.documentElement.lang = title.dataset.language;
      if (title.dataset.words !== spoken) cloister.words = words = JSON.parse(spoken = title.dataset.words);
      say(document.getElementById("switch"), words.language);
      label(document.querySelector("#question textarea"), words.placeholder);
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
  function look() {
    requestAnimationFrame(() => { due = false; refresh(); document.dispatchEvent(new Event("cloister:change")); });
    return true;
  }
  document.addEventListener("DOMContentLoaded", () => {
    const watched = { childList: true, subtree: true, attributeFilter: ["aria-label", "data-words"] };
    new MutationObserver(() => { due ||= look(); }).observe(document.body, watched);
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#theme")) {
      remember(wanted() === "dark" ? "light" : "dark");
      paint();
    }
  });
})();
