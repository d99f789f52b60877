// Runs inside of the component that holds the conversation: keeps it in this tab, so that a reload loses nothing that was
// shown. Gradio reloads the page by itself when the server was away. Closing the tab forgets it.
const KEY = cloisterKey("conversation");
let kept = [];
try {
  kept = JSON.parse(sessionStorage.getItem(KEY)) ?? [];
} catch { /* storage is off, or holds something else */ }
watch("value", () => {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(props.value ?? []));
  } catch { /* storage is off or full: then only this page holds it */ }
});
if (kept.length) {
  props.value = kept;
  trigger("submit");
}
