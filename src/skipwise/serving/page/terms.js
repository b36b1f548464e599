// What the labels mean, in words that nobody takes for others.
//
//   the feed's facts, of the labels' settings  ->  outlasting  ->  words by objective

import { percent } from "/page/dom.js";

/** An effective and a finished view, each by whom it outlasts: a finished one need not be seen to its end. */
export function outlasting({ effective_quantile, finished_quantile }) {
  const words = (share) => `longer than ${percent(share)} of others`;
  return { effective: words(effective_quantile), finished: words(finished_quantile) };
}
