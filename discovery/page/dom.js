// Elements from values. Text is always set as text, so that nothing a producer wrote can become markup.

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// Words for those who do not see what stands there.
export const said = (text) => h("span", { class: "hidden" }, text);

export const percent = (share) => `${(100 * share).toFixed(3)}%`;

// Puts a node over a box of the picture: x0, y0, x1, y1 in 0..1.
export function overBox(node, [x0, y0, x1, y1]) {
  node.style.left = percent(x0);
  node.style.top = percent(y0);
  node.style.width = percent(x1 - x0);
  node.style.height = percent(y1 - y0);
  return node;
}

export function at(node, x, y) {
  node.style.left = percent(x);
  node.style.top = percent(y);
  return node;
}
