/** What a saved file says about its maker. */

/** Version of the package; a test compares it with package.json. */
export const VERSION = "0.1.0";

/** The arithmetic that filled the file; see numerics.ts. A change of any bit of any encoder is a new name. */
export const NUMERICS_PROFILE = "strict-binary32-1";
