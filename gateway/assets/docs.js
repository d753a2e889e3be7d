// Draws /openapi.json. Texts go in as text nodes only, so nothing in a description can become markup.
"use strict";

const make = (name, attributes, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
};

const deref = (doc, schema) => {
  const name = schema && schema.$ref;
  return name ? name.split("/").slice(1).reduce((at, part) => at[part], doc) : schema;
};

// One schema in a line or a few, as a reader would write it.
const shape = (doc, schema, depth) => {
  const label = schema && schema.$ref ? schema.$ref.split("/").pop() : null;
  const s = deref(doc, schema) || {};
  const pad = "  ".repeat(depth);
  if (depth > 6) return label || "…";
  if (s.enum) return s.enum.length > 12 ? `${label || "one of"} (${s.enum.length} values)` : s.enum.map((v) => JSON.stringify(v)).join(" | ");
  if ("const" in s) return JSON.stringify(s.const);
  const many = s.anyOf || s.oneOf;
  if (many) return many.map((one) => shape(doc, one, depth)).join(" | ");
  const type = [].concat(s.type || "any");
  const nullable = type.includes("null") ? " | null" : "";
  const base = type.find((t) => t !== "null");
  if (!base) return "null";
  if (base === "array") return `[${shape(doc, s.items || {}, depth)}]${nullable}`;
  if (base === "object" && s.properties) {
    const required = new Set(s.required || []);
    const lines = Object.entries(s.properties).map(([name, property]) => {
      const about = (property.description || "").split("\n")[0];
      return `${pad}  ${name}${required.has(name) ? "" : "?"}: ${shape(doc, property, depth + 1)}${about ? `   // ${about}` : ""}`;
    });
    return `{\n${lines.join("\n")}\n${pad}}${nullable}`;
  }
  if (base === "object" && s.additionalProperties) return `{name: ${shape(doc, s.additionalProperties === true ? {} : s.additionalProperties, depth)}}${nullable}`;
  const limits = [];
  if (s.format) limits.push(s.format);
  if ("minimum" in s && Math.abs(s.minimum) < 1e15) limits.push(`≥ ${s.minimum}`);
  if ("maximum" in s && Math.abs(s.maximum) < 1e15) limits.push(`≤ ${s.maximum}`);
  if ("maxLength" in s) limits.push(`≤ ${s.maxLength} characters`);
  if (s.pattern && s.pattern.includes("_[0-7]")) limits.push(s.pattern.slice(1).split("[")[0] + "…");
  return `${base || "any"}${limits.length ? ` (${limits.join(", ")})` : ""}${nullable}`;
};

const table = (heads, rows) =>
  make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));

const responses = (doc, operation) =>
  Object.entries(operation.responses).map(([status, response]) => {
    const [kind, content] = Object.entries(response.content || {})[0] || [];
    const body = content && kind === "application/json" ? make("pre", {}, shape(doc, content.schema, 0)) : null;
    return [make("code", {}, status), make("div", {}, response.description, body)];
  });

const draw = (doc, path, verb, operation) => {
  const box = make("details", { id: operation.operationId },
    make("summary", {}, make("code", { class: "verb" }, verb.toUpperCase()), make("code", {}, path), " ",
      make("span", { class: "about" }, operation.summary || "")));
  // Drawn when it is opened: the page stays light however many there are.
  box.addEventListener("toggle", () => {
    if (box.dataset.drawn) return;
    box.dataset.drawn = "yes";
    for (const paragraph of (operation.description || "").split("\n\n")) box.append(make("p", {}, paragraph));
    if (operation.parameters && operation.parameters.length) {
      box.append(make("h3", {}, "Parameters"), table(["name", "in", "value"], operation.parameters.map((p) => [
        make("code", {}, p.name + (p.required ? "" : "?")), p.in, `${shape(doc, p.schema, 0)}. ${p.description || ""}`])));
    }
    if (operation.requestBody) {
      box.append(make("h3", {}, "Body"), make("pre", {}, shape(doc, operation.requestBody.content["application/json"].schema, 0)));
    }
    box.append(make("h3", {}, "Answers"), table(["status", "meaning"], responses(doc, operation)));
  });
  box.dataset.words = `${path} ${verb} ${operation.operationId} ${operation.summary} ${operation.description}`.toLowerCase();
  return box;
};

const start = async () => {
  const main = document.getElementById("operations");
  try {
    const doc = await (await fetch("/openapi.json")).json();
    const byTag = new Map((doc.tags || []).map((tag) => [tag.name, { about: tag.description, boxes: [] }]));
    for (const [path, verbs] of Object.entries(doc.paths)) {
      for (const [verb, operation] of Object.entries(verbs)) {
        const tag = (operation.tags || ["Other"])[0];
        if (!byTag.has(tag)) byTag.set(tag, { about: "", boxes: [] });
        byTag.get(tag).boxes.push(draw(doc, path, verb, operation));
      }
    }
    main.replaceChildren(...[...byTag].map(([tag, { about, boxes }]) =>
      make("section", {}, make("h2", {}, tag), make("p", { class: "about" }, about || ""), ...boxes)));
    document.getElementById("filter").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const box of main.querySelectorAll("details")) box.hidden = !words.every((word) => box.dataset.words.includes(word));
      for (const section of main.querySelectorAll("section")) section.hidden = !section.querySelector("details:not([hidden])");
    });
    const wanted = location.hash && document.getElementById(location.hash.slice(1));
    if (wanted) { wanted.open = true; wanted.scrollIntoView(); }
  } catch (error) {
    main.replaceChildren(make("p", { role: "alert" }, `The document could not be drawn: ${error}`));
  }
};
start();
