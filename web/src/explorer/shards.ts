// The text of the rollouts comes in parts (shards), each a classic script that hands its data over when it runs: the
// one way to read a file beside this page that works from the file system too. A few decoded parts are kept.
import { DataError, readShard, shardOf, type Index, type Rollout } from "./contract";
import { decode } from "./decode";
import { Lru } from "./lru";

const KEPT = 8;

export type LoadScript = (file: string) => Promise<void>;

export class Shards {
  private readonly decoded = new Lru<number, Rollout[]>(KEPT);
  private readonly waiting = new Map<number, Promise<Rollout[]>>();
  private readonly arrived = new Map<number, string>();

  constructor(
    readonly index: Index,
    private readonly loadScript: LoadScript,
  ) {}

  /** A script hands over its data. What nobody has asked for was put into the page itself: it is kept packed. */
  receive(shard: number, packed: string): void {
    this.arrived.set(shard, packed);
  }

  /** The rollout, if its part is decoded already. */
  peek(row: number): Rollout | undefined {
    const shard = shardOf(this.index, row);
    return this.decoded.get(shard)?.[row - (this.index.shards[shard]?.first ?? 0)];
  }

  async rollout(row: number): Promise<Rollout> {
    const shard = shardOf(this.index, row);
    const rows = await this.load(shard);
    return rows[row - this.index.shards[shard]!.first]!;
  }

  /** All rollouts of a part, from the cache or from its script. Rejects with a `DataError` fit for a reader. */
  load(shard: number): Promise<Rollout[]> {
    const kept = this.decoded.get(shard);
    if (kept) return Promise.resolve(kept);
    const under = this.waiting.get(shard);
    if (under) return under;
    const work = this.fetch(shard).finally(() => this.waiting.delete(shard));
    this.waiting.set(shard, work);
    return work;
  }

  private async fetch(shard: number): Promise<Rollout[]> {
    const place = this.index.shards[shard];
    if (!place) throw new DataError("This rollout is in none of the parts of the data.");
    const inPage = this.arrived.has(shard);
    try {
      if (!inPage) await this.loadScript(place.file);
      const packed = this.arrived.get(shard);
      if (packed === undefined) throw new DataError("it holds no data; the file may be cut short");
      const rows = readShard(await decode(packed), place.n);
      this.decoded.set(shard, rows);
      return rows;
    } catch (error) {
      const why = error instanceof DataError ? error.message : String(error);
      throw new DataError(
        `The text of rollouts ${place.first + 1} to ${place.first + place.n} (${place.file}) cannot be read: ${why}. ` +
          "Everything else on this page still works; writing the explorer again replaces the file.",
      );
    } finally {
      if (!inPage) this.arrived.delete(shard);
    }
  }
}

/** Run a script beside this page and take its element away again. */
export function loadScript(file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = file;
    script.onload = () => (script.remove(), resolve());
    script.onerror = () => (script.remove(), reject(new DataError("the file is missing")));
    document.head.append(script);
  });
}
