// The list of conversations: beside the page on a wide screen, over it on a phone. Shows what the library keeps, and nothing of it
// leaves the browser.
"use strict";

(() => {
  const { library, talk, files, fill } = window.cloister;
  const STATE = cloisterKey("drawer");
  const wide = matchMedia("(min-width: 1000px)");
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  };
  const named = (name) => ({ "aria-label": name, title: name });

  const search = make("input", { type: "search", oninput: () => later(fillList, 150) });
  const list = make("ul");
  const said = make("p", { class: "said", role: "status" });
  const trouble = make("p", { class: "trouble", role: "status", hidden: true });
  const chosen = make("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: takeIn });
  const more = make("details", { class: "more" });
  const close = make("button", { type: "button", class: "close", onclick: () => toggle(false) });
  const fresh = make("button", { type: "button", class: "fresh", onclick: () => { talk.fresh(); away(); } });
  const heading = make("h2");
  const dialog = make("dialog", { id: "library" }, make("header", {}, heading, close), fresh, search, trouble, list, said, more, chosen);

  const notice = make("aside", { id: "unkept", role: "status" });
  let timer, renaming = "", drawn = 0, read = false;
  const later = (work, after) => { clearTimeout(timer); timer = setTimeout(work, after); };

  function toggle(open, quietly = false) {
    if (open === dialog.open) return;
    if (!open) dialog.close();
    else if (wide.matches) quietly ? dialog.setAttribute("open", "") : dialog.show();
    else dialog.showModal();
    document.body.classList.toggle("with-library", open && wide.matches);
    if (open) fillList();
    shelf();
    if (wide.matches) try { localStorage.setItem(STATE, open ? "open" : ""); } catch { /* storage is off */ }
  }
  const away = () => { if (!wide.matches) toggle(false); };
  dialog.addEventListener("close", () => {
    document.body.classList.remove("with-library");
    shelf();
    document.getElementById("shelf")?.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) toggle(false); }); // beside it
  wide.addEventListener("change", () => toggle(false));

  function shelf() {
    const button = document.getElementById("shelf");
    if (button && button.getAttribute("aria-expanded") !== String(dialog.open)) button.setAttribute("aria-expanded", String(dialog.open));
  }

  async function fillList() {
    const { words } = talk, number = ++drawn, wanted = search.value.trim();
    if (!words.search) return;
    tellTrouble();
    if (!dialog.open) return;
    const all = await library.list().catch(() => []);
    const found = wanted ? await library.search(wanted).catch(() => new Map()) : null;
    if (number !== drawn || list.contains(document.activeElement) && renaming) return;
    const focus = document.activeElement?.closest?.("#library li")?.dataset.id;
    const rows = all.filter(({ id }) => !found || found.has(id)).map((record) => row(record, found?.get(record.id)));
    list.replaceChildren(...(rows.length ? rows : [make("li", { class: "none" }, wanted ? words.nothing_found : words.nothing_kept)]));
    if (focus) list.querySelector(`li[data-id="${CSS.escape(focus)}"] button`)?.focus();
    drawMore(all.length);
  }

  // Nothing can be kept: that is said on the page itself, until somebody has read it, and in the list.
  function tellTrouble() {
    const { words } = talk, text = library.trouble && fill(words.trouble, { why: library.trouble });
    trouble.hidden = !text;
    if (trouble.textContent !== text) trouble.textContent = text;
    if (!text) notice.remove();
    else if (!read && !notice.isConnected) document.body.append(notice);
    notice.replaceChildren(make("span", {}, text), make("button", { type: "button", class: "close", ...named(words.close), onclick: () => { read = true; notice.remove(); } }));
  }

  function row({ id, title, name }, where) {
    const { words } = talk, shown = name || title || words.untitled;
    const current = id === talk.id;
    const open = make("button", { type: "button", class: "open", title: shown, "aria-current": current && "true", onclick: async () => { await talk.open(id); away(); fillList(); } },
      make("span", {}, shown), ...(where ? [make("small", {}, where)] : []));
    return make("li", { "data-id": id }, open,
      make("button", { type: "button", class: "rename", ...named(`${words.rename}: ${shown}`), onclick: () => rename(id, shown) }),
      make("button", { type: "button", class: "delete", ...named(`${words.delete}: ${shown}`), onclick: () => remove(id, shown) }));
  }

  function rename(id, shown) {
    const item = list.querySelector(`li[data-id="${CSS.escape(id)}"]`);
    const box = make("input", { type: "text", maxlength: "120", "aria-label": talk.words.name });
    const finish = async (save) => {
      if (renaming !== id) return;
      renaming = "";
      if (save && box.value.trim() && box.value.trim() !== shown) await library.rename(id, box.value.trim()).catch(() => {});
      await fillList();
      list.querySelector(`li[data-id="${CSS.escape(id)}"] .rename`)?.focus();
    };
    box.value = shown;
    box.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); finish(false); }
    });
    box.addEventListener("blur", () => finish(true));
    renaming = id;
    item.replaceChildren(box);
    box.select();
  }

  async function remove(id, shown) {
    const open = id === talk.id;
    if (open) talk.fresh();
    const gone = await library.remove(id).catch(() => null);
    if (!gone) return;
    say(fill(talk.words.deleted, { title: shown }), make("button", { type: "button", onclick: async () => {
      await library.add([gone]).catch(() => {});
      if (open) talk.open(id);
      say("");
      search.focus();
    } }, talk.words.undo)).focus();
  }

  function say(text, button) {
    said.replaceChildren(...(text ? [make("span", {}, text)] : []), ...(button ? [button] : []));
    return button;
  }

  function drawMore(count, anew = false) {
    const { words } = talk, begun = talk.whole.turns.length > 0, signature = [count, begun, words.more].join();
    if (more.dataset.signature === signature && !anew) return; // what somebody is about to press stays where it is
    more.dataset.signature = signature;
    const act = (text, work, usable = true) => make("button", { type: "button", disabled: !usable, onclick: work }, text);
    const sure = () => {
      const keep = act(words.keep, () => drawMore(count, true));
      more.replaceChildren(more.firstChild, make("p", {}, fill(words.sure, { count })), act(words.delete_all, async () => {
        await library.clear().catch(() => {});
        say("");
        search.focus();
      }), keep);
      keep.previousSibling.className = "sure";
      keep.focus();
    };
    more.replaceChildren(make("summary", {}, words.more),
      act(words.export_markdown, files.markdown, begun), act(words.export_json, files.json, begun),
      act(words.export_all, files.all, count > 0), act(words.take_in, () => chosen.click()), act(words.delete_all, sure, count > 0),
      make("p", { class: "here" }, words.here));
  }

  async function takeIn() {
    const [file] = chosen.files;
    if (file) say(await files.take(file));
    chosen.value = "";
    fillList();
  }

  library.listen(({ gone, elsewhere }) => {
    if (gone && (gone === "all" || elsewhere) && (gone === "all" || gone === talk.id) && talk.whole.turns.length && !talk.underWay) talk.fresh();
    else if (gone === "all" && !elsewhere && talk.whole.turns.length) talk.fresh();
    later(fillList, 50);
  });

  let spoken = "", shown = "";
  talk.listen(() => {
    const { words } = talk;
    shelf();
    if (words.search && words.search + words.new !== spoken) {
      spoken = words.search + words.new;
      heading.textContent = words.conversations;
      dialog.setAttribute("aria-label", words.conversations);
      for (const [key, value] of Object.entries(named(words.close))) close.setAttribute(key, value);
      fresh.textContent = words.new;
      search.placeholder = words.search;
      search.setAttribute("aria-label", words.search);
      say("");
      fillList();
    } else if (shown !== talk.id + Boolean(talk.whole.turns.length)) {
      fillList();
    }
    shown = talk.id + Boolean(talk.whole.turns.length);
  });

  document.addEventListener("click", (event) => { if (event.target.closest?.("#shelf")) toggle(!dialog.open); });
  document.addEventListener("DOMContentLoaded", () => {
    document.body.prepend(dialog);
    try { if (wide.matches && localStorage.getItem(STATE)) toggle(true, true); } catch { /* storage is off */ }
  });
})();
