// Exact interval of a proportion (Clopper & Pearson 1934), as bundle/report/figures.py has it from scipy:
// corrections change the counts while nobody is there to ask scipy.

const TAIL = 0.025;

/** Probability of at most `count` successes in `total` draws with probability `p`. */
function binomialCdf(count, total, p) {
  if (p <= 0) return 1;
  if (p >= 1) return count >= total ? 1 : 0;
  let logChoose = 0;
  let sum = 0;
  for (let i = 0; i <= count; i++) {
    if (i > 0) logChoose += Math.log((total - i + 1) / i);
    sum += Math.exp(logChoose + i * Math.log(p) + (total - i) * Math.log1p(-p));
  }
  return Math.min(1, sum);
}

/** The root of a falling function in 0..1. */
function bisect(falling) {
  let low = 0;
  let high = 1;
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (falling(middle) > 0) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** [value, low, high] in percent; null of nothing. */
function percentage(count, total) {
  if (total === 0) return null;
  const low = count === 0 ? 0 : bisect((p) => binomialCdf(count - 1, total, p) - (1 - TAIL));
  const high = count === total ? 1 : bisect((p) => binomialCdf(count, total, p) - TAIL);
  return [(100 * count) / total, 100 * low, 100 * high];
}
