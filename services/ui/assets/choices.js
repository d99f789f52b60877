// The settings: what the visitor has chosen about how answers are made, kept in this browser, handed to the server with each question
// and filled into the dialog that the server made (services/ui/choices_panel.py). What has not been chosen is not kept.
"use strict";

(() => {
  const KEPT = cloisterKey("choices");
  let choices = recall(), component = null, view = null, drawn = "";

  const dialog = document.createElement("dialog");
  dialog.id = "choices";
  dialog.className = "choices";
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-labelledby", "choices-title");
  const fields = () => [...dialog.querySelectorAll("[name]")];

  function recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEPT));
      return kept && typeof kept === "object" && !Array.isArray(kept) ? kept : {};
    } catch { return {}; }
  }

  function keep(changed) {
    choices = changed;
    try {
      if (Object.keys(choices).length) localStorage.setItem(KEPT, JSON.stringify(choices));
      else localStorage.removeItem(KEPT);
    } catch { /* storage is off or full: then they hold as long as this page */ }
    tell();
  }

  function tell() {
    if (component) component.props.value = choices;
    mark();
  }

  // The button says how many there are.
  function mark() {
    const button = document.querySelector("#choices-button button"), count = Object.keys(choices).length;
    if (!button) return;
    cloister.say(button, count ? button.dataset.changed.replace("{count}", count) : button.dataset.name);
    if ((button.dataset.count ?? "0") === String(count)) return;
    if (count) button.dataset.count = count;
    else delete button.dataset.count;
  }

  // What stands in a field: undefined for nothing, null for what may not stand there.
  function read(field) {
    const text = field.value.trim(), { least, most, longest } = field.dataset;
    if (!text) return undefined;
    if (field.name === "thinking") return text === "true";
    if (longest && text.length > Number(longest)) return null;
    if (!least) return text;
    const figures = text.normalize("NFKC").replace(",", "."); // digits of an input method, and the comma of many countries
    const number = /^(\d+\.?\d*|\.\d+)$/.test(figures) ? Number(figures) : NaN;
    const whole = !("whole" in field.dataset) || /^\d+$/.test(figures);
    return whole && number >= Number(least) && number <= Number(most) ? number : null;
  }

  function complain(field, text) {
    const place = document.getElementById(`${field.id}-wrong`);
    if (place.textContent !== text) place.textContent = text;
    if (text) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }

  function take(field) {
    const value = read(field);
    complain(field, value === null ? field.dataset.wrong : "");
    if (value === null || value === choices[field.name]) return;
    const { [field.name]: _, ...others } = choices;
    keep(value === undefined ? others : { ...others, [field.name]: value });
    settle();
  }

  // The length of what is not to be does not matter.
  function settle() {
    const budget = document.getElementById("choices-thinking_budget");
    if (budget) budget.disabled = choices.thinking === false;
  }

  function fill() {
    for (const field of fields()) {
      field.value = String(choices[field.name] ?? "");
      complain(field, "");
    }
    settle();
  }

  function say(text, button) {
    dialog.querySelector(".said")?.replaceChildren(...(text ? [text] : []), ...(button ? [button] : []));
  }

  function reset({ dataset }) {
    const before = choices, undo = document.createElement("button");
    keep({});
    fill();
    undo.type = "button";
    undo.textContent = dataset.undo;
    undo.addEventListener("click", () => {
      keep(before);
      fill();
      say("");
      dialog.querySelector(".reset").focus();
    });
    say(dataset.done, Object.keys(before).length ? undo : null);
  }

  function open() {
    if (dialog.open) return;
    fill();
    say("");
    dialog.showModal();
    dialog.focus();
    view?.trigger("submit");
  }

  document.addEventListener("click", (event) => { if (event.target.closest?.("#choices-button button")) open(); });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest(".close")) dialog.close();
    const button = event.target.closest(".reset");
    if (button) reset(button);
  });
  dialog.addEventListener("change", (event) => take(event.target));
  dialog.addEventListener("input", ({ target }) => { if (target.hasAttribute("aria-invalid") && read(target) !== null) complain(target, ""); });
  dialog.addEventListener("close", () => fields().forEach(take)); // what was being typed when Escape came
  document.addEventListener("cloister:change", mark);
  addEventListener("storage", ({ key }) => { // in another tab
    if (key !== KEPT && key !== null) return;
    choices = recall();
    tell();
    if (dialog.open) fill();
  });

  window.cloister = { ...window.cloister, choices: {
    // Called by the component that hands them to the server.
    join(props) {
      component = { props };
      tell();
    },

    // Called by the component that brings the dialog.
    draw(element, props, trigger) {
      view = { props, trigger };
      element.append(dialog);
      this.redraw();
    },

    // What is being typed stays, when the dialog comes anew in the midst of it.
    redraw() {
      const html = view.props.value ?? "";
      if (html === drawn) return;
      const typed = new Map(dialog.open ? fields().map((field) => [field.name, field.value]) : []);
      const focused = dialog.contains(document.activeElement) ? document.activeElement.id : "";
      dialog.innerHTML = drawn = html;
      const select = dialog.querySelector("[name=adapter]"), offered = [...(select?.options ?? [])].map((option) => option.value);
      if (choices.adapter && dialog.querySelector(".known") && !offered.includes(choices.adapter)) {
        const { adapter, ...others } = choices; // it is not there any more
        keep(others);
      }
      fill();
      for (const field of fields()) if (typed.has(field.name)) field.value = typed.get(field.name);
      if (focused && focused !== "choices") document.getElementById(focused)?.focus();
    },
  } };
})();
