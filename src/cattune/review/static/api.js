// Requests to the server. A failure is a Problem with what the server says of it.

export class Problem extends Error {
  constructor(message, kind, body = {}) {
    super(message);
    this.kind = kind;
    this.body = body;
  }
}

export const get = (path, query = {}) => request(`${path}?${new URLSearchParams(query)}`);

export const post = (path, body = {}) =>
  request(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem("The review server does not answer. Start cattune review again and open the URL that it prints; confirmed edits are kept.", "gone");
  }
  if (response.status === 403) {
    throw new Problem("This page belongs to an earlier run of cattune review. Open the URL that the newest one printed.", "gone");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Problem(`The server failed (${response.status}); its terminal says why.`, "failed");
  }
  if (!response.ok) throw new Problem(body.error, body.kind, body);
  return body;
}
