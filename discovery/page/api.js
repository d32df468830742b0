// The HTTP API. Every failure is an Error with the problem document's words.

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The API cannot be reached."), { status: 0 });
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.detail || response.statusText), { status: response.status, problem: body });
  return body;
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

export const similar = (kind, question, signal) =>
  asked(`/search/${kind}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(question),
    signal,
  });
