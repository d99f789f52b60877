// Runs inside of the component of the status panel: opens and closes it, asks for it anew while it is open and seen, and
// puts what comes in place without touching what has not changed, so that focus, scrolling and unfolded tables stay.
const EVERY = 2000; // milliseconds between two askings
const PATIENCE = 15000; // how long one of them is waited for
const dialog = document.createElement("dialog");
dialog.id = "panel";
dialog.tabIndex = -1;
const body = document.createElement("div");
const told = document.createElement("p");
told.className = "told";
told.setAttribute("role", "status");
dialog.append(body, told);
element.append(dialog);

let clock, asked = 0; // asked: when, as long as the answer has not come
function ask() {
  if (document.hidden || (asked && Date.now() - asked < PATIENCE)) return;
  asked = Date.now();
  trigger("submit");
}

function open(button) {
  if (dialog.open) return;
  dialog.setAttribute("aria-label", button.getAttribute("aria-label"));
  dialog.showModal();
  dialog.focus();
  ask();
  clock = setInterval(ask, EVERY);
}

dialog.addEventListener("close", () => clearInterval(clock));
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest(".close")) dialog.close();
  const copy = event.target.closest("[data-copy]");
  if (copy) take(copy);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#panel-button button");
  if (button) open(button);
});
// Before the page's own keys, which would stop an answer.
addEventListener("keydown", (event) => {
  if (!dialog.open || event.key !== "Escape" || event.isComposing) return;
  event.preventDefault();
  event.stopPropagation();
  dialog.close();
}, true);

// The clipboard is closed to pages that came without TLS from another machine; selecting works there too.
async function take(button) {
  let taken = true;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    taken = document.execCommand("copy");
  }
  if (!taken) return;
  told.textContent = body.firstElementChild.dataset.copied;
  setTimeout(() => { told.textContent = ""; }, 2000);
}

function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const children = [...fresh.childNodes];
  while (old.childNodes.length > children.length) old.lastChild.remove();
  children.forEach((child, place) => {
    if (old.childNodes[place]) morph(old.childNodes[place], child);
    else old.append(child);
  });
}

watch("value", () => {
  asked = 0;
  const fresh = document.createElement("div");
  fresh.innerHTML = props.value ?? "";
  morph(body, fresh);
});
