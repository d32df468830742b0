// Boxes x0, y0, x1, y1 in 0..1 of a picture, and how they move. A box never leaves the picture nor gets too thin.

export const DEFAULT_BOX = [0.2, 0.2, 0.8, 0.8];
const SMALLEST = 0.04;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// Three decimals: as fine as the grid on which the API cuts, and short in an address.
export const rounded = (box) => box.map((v) => Math.round(v * 1000) / 1000);

export const valid = (box) =>
  box.length === 4 && box.every((v) => v >= 0 && v <= 1) && box[2] - box[0] >= 0.005 && box[3] - box[1] >= 0.005;

export const contains = ([x0, y0, x1, y1], [x, y]) => x >= x0 && x <= x1 && y >= y0 && y <= y1;

export function moved([x0, y0, x1, y1], dx, dy) {
  const x = clamp(dx, -x0, 1 - x1);
  const y = clamp(dy, -y0, 1 - y1);
  return [x0 + x, y0 + y, x1 + x, y1 + y];
}

// Moves the edges that a grip names: letters of n, e, s, w.
export function resized([x0, y0, x1, y1], grip, dx, dy) {
  return [
    grip.includes("w") ? clamp(x0 + dx, 0, Math.max(0, x1 - SMALLEST)) : x0,
    grip.includes("n") ? clamp(y0 + dy, 0, Math.max(0, y1 - SMALLEST)) : y0,
    grip.includes("e") ? clamp(x1 + dx, Math.min(1, x0 + SMALLEST), 1) : x1,
    grip.includes("s") ? clamp(y1 + dy, Math.min(1, y0 + SMALLEST), 1) : y1,
  ];
}

// Grows or shrinks by the right and lower edge, and by the other one where the picture ends.
export function grown(box, dx, dy) {
  const [, , x1, y1] = box;
  const east = resized(box, x1 >= 1 && dx > 0 ? "w" : "e", x1 >= 1 && dx > 0 ? -dx : dx, 0);
  return resized(east, y1 >= 1 && dy > 0 ? "n" : "s", 0, y1 >= 1 && dy > 0 ? -dy : dy);
}

// The box that is drawn from one corner to the other.
export function drawn([ax, ay], [bx, by]) {
  const [x0, x1] = [clamp(Math.min(ax, bx), 0, 1 - SMALLEST), clamp(Math.max(ax, bx), SMALLEST, 1)];
  const [y0, y1] = [clamp(Math.min(ay, by), 0, 1 - SMALLEST), clamp(Math.max(ay, by), SMALLEST, 1)];
  return [x0, y0, Math.max(x1, x0 + SMALLEST), Math.max(y1, y0 + SMALLEST)];
}

const percent = (v) => `${Math.round(100 * v)} %`;

export const spoken = ([x0, y0, x1, y1]) =>
  `${percent(x1 - x0)} wide, ${percent(y1 - y0)} high, ${percent(x0)} from the left, ${percent(y0)} from the top`;
