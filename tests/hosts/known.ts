// SchemaStore's types let any further name pass; here only the names they tell may stand, so that a
// misspelt one is found.
type Told<T> = { [Name in keyof T as string extends Name ? never : Name]: T[Name] };
export type Known<T> = T extends readonly (infer One)[]
  ? Known<One>[]
  : T extends object
    ? keyof Told<T> extends never
      ? T
      : { [Name in keyof Told<T>]: Known<Told<T>[Name]> }
    : T;
