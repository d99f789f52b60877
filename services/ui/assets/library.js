// The conversations that this browser keeps, in IndexedDB: one record for each of them, and one for each of their turns, so that
// only what changed is written. What two tabs write of one conversation stands side by side. Knows nothing of how it is shown.
"use strict";

(() => {
  const UNDER_WAY = ["waiting", "queued", "reading", "thinking", "answering"];
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  let trouble = ""; // "" while everything is kept, else the name of what went wrong
  let listener = () => {};
  const others = window.BroadcastChannel ? new BroadcastChannel(cloisterKey("library")) : { postMessage() {} };

  const opened = new Promise((resolve, reject) => {
    const request = indexedDB.open(cloisterKey("library"), 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("talks", { keyPath: "id" });
      request.result.createObjectStore("turns", { keyPath: ["talk", "id"] });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  // Runs `work` in one transaction over both stores; resolves when it is on the disk.
  async function within(mode, work) {
    try {
      const store = (await opened).transaction(["talks", "turns"], mode);
      const done = new Promise((resolve, reject) => {
        store.oncomplete = resolve;
        store.onabort = store.onerror = () => reject(store.error ?? new Error("storage"));
      });
      const found = await work(store.objectStore("talks"), store.objectStore("turns"));
      await done;
      trouble = "";
      return found;
    } catch (error) {
      trouble = error?.name || "storage";
      listener({});
      throw error;
    }
  }
  const of = (id) => IDBKeyRange.bound([id, ""], [id, "\uffff"]);

  const length = (turn) => turn.thought.length + turn.answer.length;
  // What has been written of an answer never becomes less, whichever tab is the slower one.
  function better(turn, old) {
    if (!old || length(turn) !== length(old)) return !old || length(turn) > length(old);
    return turn.stage !== "lost" || UNDER_WAY.includes(old.stage);
  }

  // Parents first, the rest by age: ids begin with the time. What follows nothing that is there is left out.
  function ordered(turns) {
    const known = new Set([""]), found = [];
    let waiting = [...turns].sort((a, b) => (a.id < b.id ? -1 : 1));
    for (let before = -1; waiting.length && before !== found.length;) {
      before = found.length;
      waiting = waiting.filter((turn) => {
        if (!known.has(turn.parent)) return true;
        known.add(turn.id);
        found.push(turn);
        return false;
      });
    }
    return found;
  }

  function titled(turns) {
    const first = turns[0];
    const line = first?.question.split("\n").find((text) => text.trim()) ?? first?.files?.[0]?.name ?? "";
    return line.trim().slice(0, 120);
  }

  // `record` is what is known of the conversation where it comes from elsewhere, a file for instance.
  async function putTalk(talks, turns, talk, changed, record) {
    const old = await settled(talks.get(talk.id)), now = Date.now();
    const used = record ? Math.max(old?.used ?? 0, record.used ?? now) : now;
    talks.put({ title: titled(talk.turns), name: "", begun: now, ...record, ...old, id: talk.id, head: talk.head, used });
    for (const turn of old ? changed : talk.turns) {
      if (better(turn, await settled(turns.get([talk.id, turn.id])))) turns.put({ ...turn, talk: talk.id });
    }
  }

  async function whole(talks, turns, id) {
    const record = await settled(talks.get(id));
    if (!record) return null;
    const found = ordered(await settled(turns.getAll(of(id)))).map(({ talk: _, ...turn }) => turn);
    const head = found.some((turn) => turn.id === record.head) ? record.head : found.at(-1)?.id ?? "";
    return { id, head, turns: found, record };
  }

  const tell = (change) => { others.postMessage(change); listener(change); };
  others.onmessage = ({ data }) => listener({ ...data, elsewhere: true });

  window.cloister = { ...window.cloister, library: {
    get trouble() { return trouble; },
    listen(callback) { listener = callback; },

    // Without their turns; the one that was used last comes first.
    list: () => within("readonly", async (talks) => (await settled(talks.getAll())).sort((a, b) => b.used - a.used)),
    load: (id) => within("readonly", (talks, turns) => whole(talks, turns, id)),
    all: () => within("readonly", async (talks, turns) => {
      const found = [];
      for (const id of await settled(talks.getAllKeys())) found.push(await whole(talks, turns, id));
      return found;
    }),

    // `changed` are those of the talk's turns that are not as they were saved.
    async save(talk, changed, quiet = false) {
      await within("readwrite", (talks, turns) => putTalk(talks, turns, talk, changed));
      if (!quiet) tell({});
    },
    async head(talk) {
      await within("readwrite", async (talks) => {
        const old = await settled(talks.get(talk.id));
        if (old) talks.put({ ...old, head: talk.head });
      });
    },
    async add(found) {
      await within("readwrite", async (talks, turns) => {
        for (const talk of found) await putTalk(talks, turns, talk, talk.turns, talk.record ?? {});
      });
      tell({});
    },
    async rename(id, name) {
      await within("readwrite", async (talks) => {
        const old = await settled(talks.get(id));
        if (old) talks.put({ ...old, name });
      });
      tell({});
    },
    async remove(id) {
      const gone = await within("readwrite", async (talks, turns) => {
        const found = await whole(talks, turns, id);
        talks.delete(id);
        turns.delete(of(id));
        return found;
      });
      tell({ gone: id });
      return gone;
    },
    async clear() {
      await within("readwrite", (talks, turns) => { talks.clear(); turns.clear(); });
      tell({ gone: "all" });
    },

    // By the id of each conversation in whose title or texts it occurs: where, in a few words.
    search: (text) => within("readonly", async (talks, turns) => {
      const wanted = text.toLowerCase(), found = new Map();
      for (const { id, title, name } of await settled(talks.getAll())) {
        if ((name || title).toLowerCase().includes(wanted)) found.set(id, "");
      }
      await new Promise((resolve, reject) => {
        const request = turns.openCursor();
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          const cursor = request.result;
          if (!cursor) return resolve();
          const { talk, question, answer } = cursor.value;
          for (const where of [question, answer]) {
            const place = where.toLowerCase().indexOf(wanted);
            if (place < 0 || found.has(talk)) continue;
            const from = Math.max(0, place - 20);
            found.set(talk, (from ? "…" : "") + where.slice(from, place + wanted.length + 60).replace(/\s+/g, " "));
          }
          cursor.continue();
        };
      });
      return found;
    }),
  } };
  opened.catch((error) => { trouble = error?.name || "storage"; listener({}); });
})();
