// The keys of the feed: everything can be done without a pointer.

/** Let keys do what buttons do. */
export function listenToKeys(feed) {
  document.addEventListener("keydown", (event) => pressed(feed, event));
}

function pressed(feed, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inside = event.target.closest("input, select, textarea, summary");
  if (event.key === "Escape" && !feed.why.close()) feed.guide.close();
  if (inside) return;
  const onButton = event.target.closest("button, a");
  const does = {
    ArrowDown: () => feed.move(1, {}),
    j: () => feed.move(1, {}),
    PageDown: () => feed.move(1, {}),
    ArrowUp: () => feed.move(-1, {}),
    k: () => feed.move(-1, {}),
    PageUp: () => feed.move(-1, {}),
    l: () => feed.act("like"),
    f: () => feed.act("follow"),
    s: () => feed.act("share"),
    n: () => feed.act("not"),
    w: () => feed.act("why"),
    " ": onButton ? null : () => feed.pause(),
  }[event.key];
  if (!does || event.repeat) return;
  if (event.target.closest(".panel") && event.key.startsWith("Page")) return;
  event.preventDefault();
  does();
}
