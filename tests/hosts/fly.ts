// deploy/fly.toml, which the test writes in place of FLY_TOML, held to SchemaStore's types for it.
// Those let any further name pass; here only the names they tell may stand, so that a misspelt one
// is found.
import type { FlyIoConfigSchemaFlyToml } from "@schemastore/fly";

type Told<T> = { [Name in keyof T as string extends Name ? never : Name]: T[Name] };
type Known<T> = T extends readonly (infer One)[]
  ? Known<One>[]
  : T extends object
    ? keyof Told<T> extends never
      ? T
      : { [Name in keyof Told<T>]: Known<Told<T>[Name]> }
    : T;

export const told: Known<FlyIoConfigSchemaFlyToml> = FLY_TOML;
