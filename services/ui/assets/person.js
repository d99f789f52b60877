// Whose page this is: the server names the person who has signed in by an id in the head, or nobody where no password is asked
// for. Everything that is kept in the browser goes by cloisterKey(name), so that persons who share a browser do not meet there.
"use strict";

function cloisterKey(name) {
  const person = document.querySelector('meta[name="cloister-person"]')?.content;
  return person ? `cloister-${person}-${name}` : `cloister-${name}`;
}
