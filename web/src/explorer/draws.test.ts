import { expect, test } from "vitest";
import { fromHash, toHash } from "./address";
import { counterpart, cycle, firstView, groupsOf, openIn, openRow, step } from "./draws";
import { makeIndex } from "./fixture";
import { PLAIN, decodeHash, encode, type Address } from "./hash";

const index = makeIndex();

test("the first view is a problem on which the arms disagree at the base, right beside wrong", () =>
  expect(firstView(index)).toEqual({ left: 1, right: 4, side: "left" }));

test("groups are named by what tells them apart", () => {
  expect(groupsOf(index, 1).map(({ label, rows }) => [label, rows])).toEqual([
    ["panel · base", [8, 9]], ["panel · step 5", [10, 11]], ["think · base", [12, 13]], ["think · step 5", [14, 15]],
  ]);
});

test("a rollout of the list opens in the pane of its arm, and the other pane follows to its problem", () => {
  expect(openRow(index, { left: 1, right: 4, side: "left" }, 13)).toEqual({ left: 9, right: 13, side: "right" });
  expect(openRow(index, { left: 1, right: 4, side: "left" }, 5)).toEqual({ left: 1, right: 5, side: "right" });
  expect(openRow(index, { left: 1, right: 4, side: "right" }, 18)).toEqual({ left: 18, right: 20, side: "left" });
});

test("the other arm's same draw stands beside a rollout, and never the rollout itself", () => {
  expect(counterpart(index, 8)).toBe(12);
  expect(openIn(index, { left: 8, right: 9, side: "left" }, "left", 9)).toEqual({ left: 9, right: 13, side: "left" });
});

test("cycling stays within the group", () => {
  expect(cycle(index, 8, 1)).toBe(9);
  expect(cycle(index, 9, 1)).toBe(8);
  expect(cycle(index, 8, -1)).toBe(9);
});

test("steps go through the list as it is sorted, and enter it where the open rollout would be", () => {
  const listed = Uint32Array.from([20, 1, 2, 9]);
  expect(step(index, listed, 1, 1)).toBe(2);
  expect(step(index, listed, 1, -1)).toBe(20);
  expect(step(index, listed, 20, -1)).toBe(-1);
  expect(step(index, listed, 9, 1)).toBe(-1);
  expect(step(index, listed, 1, 1, true)).toBe(9);
  expect(step(index, Uint32Array.from([2, 9, 20]), 5, 1)).toBe(9);
  expect(step(index, Uint32Array.from([2, 9, 20]), 5, -1)).toBe(2);
  expect(step(index, new Uint32Array(0), 5, 1)).toBe(-1);
});

test("an address survives the way there and back, whatever the names hold", () => {
  const address: Address = {
    ...PLAIN, row: "id1", other: "id4", right: true, map: "status", raw: true, sort: { by: "tokens", down: true },
    filters: { chosen: { arm: ["pa,n&el=", "#think+1 %"], checkpoint: ["step 5"] }, outcome: "only:a&b", min: 0, max: 12, only: "π/4", search: "x = 1 & y" },
  };
  expect(decodeHash(encode(address))).toEqual(address);
  expect(decodeHash(encode(PLAIN))).toEqual(PLAIN);
  expect(encode(PLAIN)).toBe("");
});

test.each([["#r=%E0%A4%A"], ["#min=abc&max=-1&sort=colour&map=x"], ["#=&&&=a"], ["#q=\ud800"]])("a broken address %j is read as far as it goes", (hash) => {
  expect(() => decodeHash(hash)).not.toThrow();
  expect(decodeHash(hash)).toMatchObject({ filters: { min: null, max: null }, sort: PLAIN.sort, map: null });
});

test("a lone surrogate in the search does not stop the address", () =>
  expect(() => encode({ ...PLAIN, filters: { ...PLAIN.filters, search: "\ud83d" } })).not.toThrow());

test("an address names a view, and says what the data do not hold", () => {
  expect(fromHash(index, "#r=id9&o=id14").state.open).toEqual({ left: 9, right: 14, side: "left" });
  expect(fromHash(index, "#r=id9&o=id14&side=right").state.open).toEqual({ left: 14, right: 9, side: "right" });
  expect(fromHash(index, "#r=id9&o=id22").state.open).toEqual({ left: 9, right: 14, side: "left" });
  expect(fromHash(index, "#p=p2").state.open).toMatchObject({ left: 16, right: 20 });
  expect(fromHash(index, "#r=gone")).toMatchObject({ missing: expect.stringContaining("rollout"), state: { open: { left: 1 } } });
  expect(fromHash(index, "#p=gone").missing).toContain("problem");
  const { state } = fromHash(index, "#r=id9&o=id14&side=right&q=two&status=wrong");
  expect(fromHash(index, toHash(index, state)).state).toEqual(state);
});
