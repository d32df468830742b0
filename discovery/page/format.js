// Times and names as people read them. int64 come as decimal strings.

export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 86_400_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

// Milliseconds from a pin's event to its dots; null while there are none, when the dots are of an older version, or when
// they were decided again since and nothing says when they first were.
export function eventToDot(card) {
  if (!hasDots(card) || decidedAgain(card)) return null;
  const event = Number(card.pin.event_time);
  return event > 0 ? Math.max(0, Number(card.dots.decided_at) - event) : null;
}

export const decidedAgain = (card) => hasDots(card) && card.dots.decision > 1;

export const hasDots = (card) => Boolean(card.dots) && card.dots.version === card.pin.version;

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}

export const name = (pin) => pin.title || pin.pin_id;

export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// How a picture is framed in a row of cards: its aspect within bounds, cut at both ends alike, and where a point or a
// box of the whole picture lies in what is left.
export function frame(width, height) {
  const aspect = width / height || 1;
  const framed = Math.min(3, Math.max(0.5, aspect));
  const [sx, sy] = [Math.min(1, framed / aspect), Math.min(1, aspect / framed)];
  const x = (v) => (v - (1 - sx) / 2) / sx;
  const y = (v) => (v - (1 - sy) / 2) / sy;
  return { aspect: framed.toFixed(4), x, y, box: ([x0, y0, x1, y1]) => [x(x0), y(y0), x(x1), y(y1)] };
}

// A producer's link when it leads to the web, else null: other schemes could do things here.
export function webLink(text) {
  if (!text || !URL.canParse(text)) return null;
  const { protocol, href } = new URL(text);
  return protocol === "https:" || protocol === "http:" ? href : null;
}

export const share = (value) => `${Math.round(100 * value)}%`;

const REASONS = {
  signals: "all signals passed",
  cold_start: "few neighbours yet, shown by detector score",
  low_score: "detector score too low",
  low_similarity: "nothing similar enough",
  low_annotation: "annotations say too little",
  low_conformity: "results are of mixed categories",
};

export const reason = (slug) => REASONS[slug] ?? slug.replaceAll("_", " ");
