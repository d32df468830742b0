// What went wrong, as what to do: a title, a sentence, and after how many seconds it is tried again (null: not by itself).

const ADVICE = {
  "bad-picture": "Choose another picture: JPEG, PNG or WebP, whole, with one frame.",
  "too-large": "Choose a smaller picture.",
  "unknown-pin": "The link may be old, or the pin was never published here.",
  "picture-gone": "Publish the pin again to bring its picture back.",
  "too-many-requests": "Waiting a moment.",
  internal: "The API's log says more.",
};

export const slugOf = (error) => error.problem?.type?.split("/").pop() ?? null;

export function advice(error) {
  if (error.status === 0) return { title: error.message, text: "Trying again until it is back.", again: 2 };
  const slug = slugOf(error);
  const later = error.status === 429 || error.status === 503;
  const text = [sentence(error.problem?.detail), later ? "Trying again by itself." : (ADVICE[slug] ?? "")];
  return {
    title: error.problem?.title ?? "This did not work",
    text: text.filter(Boolean).join(" ") || error.message,
    again: later ? (error.retryAfter ?? 2) : null,
  };
}

function sentence(detail) {
  if (!detail) return "";
  const text = detail[0].toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
