// One measurement in a process of its own: no contender runs on code that another one has warmed up or spoilt.
const { file, contender, params } = JSON.parse(process.argv[2]);
const { contenders } = await import(file);
const figures = await contenders[contender](params);
process.stdout.write(JSON.stringify(figures), () => process.exit(0));
