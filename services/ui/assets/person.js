// Whose page this is: the server names the person who has signed in by an id in the head, or nobody where no password is asked
// for. Everything that is kept in the browser goes by cloisterKey(name), so that persons who share a browser do not meet there.
"use strict";

function cloisterKey(name) {
  const person = document.querySelector('meta[name="cloister-person"]')?.content;
  return person ? `cloister-${person}-${name}` : `cloister-${name}`;
}

(() => {
  // Whoever has logged out leaves nothing of what this tab kept, and no page that the back button brings again.
  let leaving = false;
  document.addEventListener("submit", (event) => { leaving = event.target.id === "leave"; });
  addEventListener("pagehide", () => {
    if (leaving) try { sessionStorage.clear(); } catch { /* storage is off: then nothing is in it */ }
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // The login is over: the page gives way to the form. What this tab keeps waits for its person.
  const ask = window.fetch;
  window.fetch = async (...request) => {
    const answer = await ask(...request);
    if (answer.status === 401) location.reload();
    return answer;
  };
})();
