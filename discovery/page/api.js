// The HTTP API. Every failure is an Error with the problem document's words; problems.js says what to do about it.

const PATIENCE_MS = 15_000;

export async function asked(path, { signal, ...options } = {}) {
  const limit = AbortSignal.timeout(PATIENCE_MS);
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers: { Accept: "application/json", ...options.headers },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw Object.assign(new Error(limit.aborted ? "The API does not answer." : "The API cannot be reached."), { status: 0 });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const again = Number(response.headers.get("Retry-After"));
  throw Object.assign(new Error(body.detail || response.statusText), {
    status: response.status,
    problem: body,
    retryAfter: Number.isFinite(again) && again > 0 ? again : null,
  });
}

export const pinPath = (id, rest = "") => `/pins/${encodeURIComponent(id)}${rest}`;
export const picture = (id, width) => pinPath(id, `/picture?width=${width}`);

export const newest = (limit, before) =>
  asked(`/pins?limit=${limit}${before ? `&before=${encodeURIComponent(before)}` : ""}`);

// A pin with its dots, once it has some.
export async function card(id) {
  const pin = await asked(pinPath(id));
  const dots = await asked(pinPath(id, "/dots")).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return dots ? { pin, dots } : { pin };
}

// Pins that belong with a pin.
export const related = (id, signal) => asked(pinPath(id, "/related?k=24"), { signal });

// A search: `question` has pin_id, or picture (a Blob); then what every search may be narrowed by. `route` is its path.
export const search = (route, question, signal) => asked(route, { method: "POST", signal, ...bodyOf(question) });

function bodyOf({ picture: image, ...fields }) {
  if (!image) return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  const form = new FormData();
  form.append("image", image, "picture");
  for (const [name, value] of Object.entries(fields)) {
    if (name === "annotations") value.forEach((one) => form.append(name, one));
    else form.append(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  return { body: form };
}
