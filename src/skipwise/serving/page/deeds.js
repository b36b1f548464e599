// What can be done with a card besides watching it: the flags of its event, and what is said of it.
//
//   what a button or key is called, flags  ->  changedBy  ->  the flags it changes

/** Name -> [the button's words, the event's flag, said when it is done, said when it is taken back]. */
export const DEEDS = {
  like: ["Like", "liked", "Liked", "Like taken back"],
  follow: ["Follow", "followed", "Followed", "Follow taken back"],
  share: ["Share", "shared", "Shared", "Share taken back"],
  not: ["Not for me", "disliked", "Not for you", "“Not for me” taken back"],
};
const OPPOSITE = { like: "not", not: "like" };

/** What a deed makes of a card's flags: done or taken back; who does one takes its opposite back. */
export function changedBy(name, flags) {
  const [, flag] = DEEDS[name];
  const changed = { [flag]: !flags[flag] };
  const opposite = DEEDS[OPPOSITE[name]]?.[1];
  if (changed[flag] && flags[opposite]) changed[opposite] = false;
  return changed;
}

/** The same in words. */
export function saidOf(name, flags) {
  const [, flag, done, undone] = DEEDS[name];
  return flags[flag] ? done : undone;
}
