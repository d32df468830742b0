// Why each dot of a pin is shown or suppressed: the verdict and the signals, with those that failed marked.

import { h } from "./dom.js";
import { reason, share } from "./format.js";

export const reasonsOf = (dots) =>
  h("ul", { class: "reasons", "aria-label": "Why each dot is shown or suppressed" }, dots.map(reasonOf));

function reasonOf(dot) {
  const failed = (slug) => (dot.reasons.includes(slug) ? { class: "failed" } : {});
  const verdict = `${dot.shown ? "Shown" : "Suppressed"}: ${dot.reasons.map(reason).join(", ") || "–"}`;
  return h(
    "li",
    { class: "reason" },
    h("div", { class: "reason-head" }, h("span", {}, dot.label), h("span", { class: dot.shown ? "verdict is-shown" : "verdict" }, verdict)),
    h(
      "ul",
      {},
      dot.score === undefined ? null : h("li", failed("low_score"), `score ${dot.score.toFixed(2)}`),
      h("li", failed("low_similarity"), `similarity ${dot.similarity.toFixed(3)}`),
      h("li", failed("low_annotation"), `annotation score ${dot.annotation_score.toFixed(1)}`),
      h("li", failed("low_conformity"), `category conformity ${share(dot.category_conformity)}`),
    ),
  );
}
