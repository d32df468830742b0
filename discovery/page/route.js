// The address of what is open: #/pin/ID, #/pin/ID/OBJECT or #/pin/ID/x0,y0,x1,y1 (the box), and #/lens.
// A subject is what of a picture is searched: { object } or { box }, or null for nothing yet.

import { rounded, valid } from "./boxes.js";

export function read(hash) {
  if (hash === "#/lens") return { view: "lens" };
  const found = /^#\/pin\/([^/]+)(?:\/([\d.,]+))?$/.exec(hash);
  if (!found) return { view: "grid" };
  try {
    return { view: "pin", id: decodeURIComponent(found[1]), subject: subjectOf(found[2]) };
  } catch {
    return { view: "grid" };
  }
}

function subjectOf(text) {
  if (!text) return null;
  if (/^\d{1,9}$/.test(text)) return { object: Number(text) };
  const box = text.split(",").map(Number);
  return valid(box) ? { box: rounded(box) } : null;
}

export function pinAt(id, subject = null) {
  const path = `#/pin/${encodeURIComponent(id)}`;
  if (!subject) return path;
  return `${path}/${subject.box ? rounded(subject.box).join(",") : subject.object}`;
}
