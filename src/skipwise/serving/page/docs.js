// The API's own description, made readable: openapi.json as requests, then types, field by field.

import { node, put } from "/page/dom.js";

const byId = (id) => document.getElementById(id);

/** What a schema allows, as text and links to types. */
function kindOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1);
    return [node("a", { href: `#type-${name}` }, name)];
  }
  if (schema.anyOf) return schema.anyOf.flatMap((each, at) => (at ? [" or ", ...kindOf(each)] : kindOf(each)));
  if (schema.enum) return [schema.enum.map((each) => JSON.stringify(each)).join(" or ")];
  if (schema.type === "array") return ["list of ", ...kindOf(schema.items ?? {})];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["by name: ", ...kindOf(schema.additionalProperties)];
  }
  return [schema.type ?? "anything"];
}

/** The bounds of a value, in words. */
function boundsOf(schema) {
  const inner = schema.anyOf?.find((each) => each.type !== "null") ?? schema;
  const least = inner.minimum ?? inner.minLength ?? inner.minItems;
  const most = inner.maximum ?? inner.maxLength ?? inner.maxItems;
  const unit = inner.type === "string" ? " characters" : inner.type === "array" ? " of them" : "";
  const number = (value) => (value >= 1e9 ? String(value) : value.toLocaleString("en"));
  const range = least !== undefined && most !== undefined ? `${number(least)} to ${number(most)}${unit}`
    : most !== undefined ? `at most ${number(most)}${unit}`
      : least !== undefined ? `at least ${number(least)}${unit}` : "";
  return [inner.description, range, inner.pattern ? `matches ${inner.pattern}` : ""].filter(Boolean).join("; ");
}

function fieldsOf(schema, words) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, each]) => node("tr", {},
    node("th", { scope: "row" }, node("code", {}, name)),
    node("td", {}, kindOf(each), boundsOf(each) ? node("small", {}, boundsOf(each)) : null),
    node("td", {}, schema.required?.includes(name) ? "always"
      : each.default === undefined || each.default === null ? "may be left out" : ["else ", node("code", {}, JSON.stringify(each.default))])));
  if (!rows.length) return node("p", { class: "note" }, "No fields.");
  return node("div", { class: "scrolls", role: "region", tabindex: "0", "aria-label": words },
    node("table", {}, node("thead", {}, node("tr", {},
      node("th", { scope: "col" }, "field"), node("th", { scope: "col" }, "is"), node("th", { scope: "col" }, "given"))),
    node("tbody", {}, rows)));
}

function schemaIn(content) {
  return content?.content?.["application/json"]?.schema ?? null;
}

function nameIn(schema) {
  return schema?.$ref?.split("/").at(-1) ?? null;
}

/** A body that can be sent as it stands. */
function exampleOf(operation) {
  const example = operation.requestBody?.content?.["application/json"]?.example;
  if (example === undefined) return null;
  return node("div", { class: "part" }, node("h3", {}, "For example"),
    node("pre", { class: "example" }, node("code", {}, JSON.stringify(example, null, 2))));
}

function part(words, schema, schemas, of) {
  const name = nameIn(schema);
  if (!name) return null;
  return node("div", { class: "part" },
    node("h3", {}, `${words}: `, node("a", { href: `#type-${name}` }, name)),
    fieldsOf(schemas[name], `${words} of ${of}`));
}

function request(path, method, operation, schemas) {
  const scope = /`(\w+)`/.exec(operation.description ?? "")?.[1];
  return node("section", { class: "request", id: operation.operationId, "aria-labelledby": `h-${operation.operationId}` },
    node("h2", { id: `h-${operation.operationId}` }, node("span", { class: `method ${method}` }, method.toUpperCase()), " ", node("code", {}, path)),
    node("p", {}, operation.summary, " ", node("span", { class: "note" }, scope ? `Scope ${scope}.` : "No key needed.")),
    part("Body", schemaIn(operation.requestBody), schemas, `${method.toUpperCase()} ${path}`),
    exampleOf(operation),
    part("Answer", schemaIn(operation.responses["200"]), schemas, `${method.toUpperCase()} ${path}`));
}

function refusals(operation) {
  const rows = Object.entries(operation.responses).filter(([status]) => status !== "200").map(([status, { description }]) =>
    node("tr", {}, node("th", { scope: "row" }, node("code", {}, status)), node("td", {}, description)));
  return node("section", { class: "request", id: "refusals", "aria-labelledby": "h-refusals" }, node("h2", { id: "h-refusals" }, "When it says no"),
    node("p", {}, "Any request may be answered with one of these and a ", node("a", { href: "#type-Problem" }, "Problem"), ": which field, what it is, what it must be."),
    node("table", {}, node("thead", { class: "unseen" }, node("tr", {}, node("th", { scope: "col" }, "status"), node("th", { scope: "col" }, "meaning"))), node("tbody", {}, rows)));
}

function draw(api) {
  const { schemas } = api.components;
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  put(byId("list"), node("ul", {},
    operations.map(({ path, method, operation }) => node("li", {}, node("a", { href: `#${operation.operationId}` },
      node("span", { class: `method ${method}` }, method.toUpperCase()), " ", node("code", {}, path)))),
    node("li", {}, node("a", { href: "#refusals" }, "When it says no")), node("li", {}, node("a", { href: "#types" }, "Types"))));
  put(byId("requests"),
    operations.map(({ path, method, operation }) => request(path, method, operation, schemas)),
    refusals(operations[0].operation),
    node("section", { class: "request", id: "types", "aria-labelledby": "h-types" }, node("h2", { id: "h-types" }, "Types"),
      Object.keys(schemas).sort().map((name) => node("div", { class: "part", id: `type-${name}` }, node("h3", {}, name),
        schemas[name].description ? node("p", { class: "note" }, schemas[name].description) : null, fieldsOf(schemas[name], `Fields of the type ${name}`)))));
  if (location.hash) byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

async function start() {
  try {
    const answer = await fetch("/openapi.json", { signal: AbortSignal.timeout(10_000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    draw(await answer.json());
  } catch (problem) {
    const offline = problem instanceof TypeError || problem.name === "TimeoutError";
    put(byId("requests"), node("div", { class: "empty", role: "alert" },
      node("p", {}, offline ? "No connection to the server." : `The description cannot be read: ${problem.message}.`),
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again")));
  }
}

start();
