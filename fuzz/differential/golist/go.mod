module golist

go 1.24
