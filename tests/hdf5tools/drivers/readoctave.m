% Octave's load: every dataset as a field of a struct. It reads no attributes.

1;

function text = hexed (bytes)
  text = sprintf ("%02x", bytes);
end

function text = quoted (name)
  text = ["\"" name "\""];
end

function text = form (kind, shape, hex)
  numbers = strjoin (arrayfun (@(n) sprintf ("%d", n), shape, "UniformOutput", false), ", ");
  text = sprintf ("{\"kind\": \"%s\", \"shape\": [%s], \"hex\": %s}", kind, numbers, hex);
end

% Octave has the axes in reverse order, hence the elements in the order of the file.
function text = formed (value)
  shape = fliplr (size (value));
  if (ischar (value))
    rows = cellfun (@(row) quoted (hexed (uint8 (strtrim_nul (row)))), cellstr_exact (value), "UniformOutput", false);
    text = form ("text", rows_shape (value), ["[" strjoin(rows, ", ") "]"]);
  elseif (islogical (value) || isinteger (value))
    if (isa (value, "uint64"))
      numbers = value(:);
    else
      numbers = int64 (value(:));
    end
    text = form ("int", shape, quoted (hexed (typecast (numbers, "uint8"))));
  elseif (iscomplex (value))
    pairs = [real(double (value(:))).'; imag(double (value(:))).'];
    text = form ("complex", shape, quoted (hexed (typecast (pairs(:), "uint8"))));
  elseif (isfloat (value))
    numbers = double (value(:));
    numbers(isnan (numbers)) = typecast (uint64 (9221120237041090560), "double");
    text = form ("float", shape, quoted (hexed (typecast (numbers, "uint8"))));
  else
    text = form ("error", [], quoted (["a value of class " class(value)]));
  end
end

function shape = rows_shape (value)
  shape = [];
  if (rows (value) != 1)
    shape = [rows(value)];
  end
end

function rows = cellstr_exact (value)
  rows = arrayfun (@(at) value(at, :), 1:rows (value), "UniformOutput", false);
end

function row = strtrim_nul (row)
  row = row(1:max ([0, find(row != 0 & row != 32)]));
end

function lines = walk (group, path, lines)
  names = fieldnames (group);
  for at = 1:numel (names)
    place = [path "/" names{at}];
    value = group.(names{at});
    if (isstruct (value))
      lines{end + 1} = sprintf ("%s: {\"data\": null, \"attrs\": {}}", quoted (place));
      lines = walk (value, place, lines);
    else
      lines{end + 1} = sprintf ("%s: {\"data\": %s, \"attrs\": {}}", quoted (place), formed (value));
    end
  end
end

arguments = argv ();
if (isempty (arguments))
  said = sprintf ("{\"tool\": \"%s\", \"hdf5\": \"%s\"}", version (), getenv ("FEDARCHIVE_HDF5_SYSTEM"));
else
  lines = {"\"/\": {\"data\": null, \"attrs\": {}}"};
  loaded = load ("-hdf5", arguments{end});
  if (isstruct (loaded))
    lines = walk (loaded, "", lines);
  end
  said = ["{" strjoin(lines, ", ") "}"];
end
printf ("\nsaid: %s\n", said);
