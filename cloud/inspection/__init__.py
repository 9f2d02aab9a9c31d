"""What an uploaded file is, by its content alone: the program that the hub runs as a child for every upload.

Names and content types are never looked at. Whatever is not plainly an ONNX, TFLite or safetensors file, and nothing
else at the same time, is refused with the reason; nothing in it is executed, unpacked or followed to other files.
"""
