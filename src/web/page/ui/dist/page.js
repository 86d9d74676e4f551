// The page works without a script.
export {};
