/** Dashes beside colours, so that lines can be told apart without seeing colour. */
export const DASHES: readonly (number[] | "solid")[] = ["solid", [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [4, 6]];
